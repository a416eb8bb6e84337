/** Requests of the federation API, signed with the key of a server. */
import type { Body } from "../../support/Curl.ts"
import { keyId, type Signer, signature } from "./SignedJson.ts"

export class Federation {
  private readonly signer: Signer
  private readonly destination: string
  private readonly url: string

  /** `url` is the federation API of the destination over HTTP. */
  constructor(signer: Signer, destination: string, url: string) {
    this.signer = signer
    this.destination = destination
    this.url = url
  }

  /** The answer's status and body. */
  readonly call = async (method: string, endpoint: string, content?: object) => {
    const uri = `/_matrix/federation/${endpoint}`
    const { key, serverName: origin } = this.signer
    const signed = signature({ method, uri, origin, destination: this.destination, content }, key)
    const response = await fetch(`${this.url}${uri}`, {
      method,
      headers: {
        Authorization: `X-Matrix origin="${origin}",destination="${this.destination}",key="${keyId}",sig="${signed}"`,
        "Content-Type": "application/json"
      },
      ...(content === undefined ? {} : { body: JSON.stringify(content) })
    })
    return { status: response.status, body: (await response.json()) as Body }
  }

  /** The PDU as the destination serves it, or undefined if it does not. */
  readonly event = async (eventId: string) => {
    const { body, status } = await this.call("GET", `v1/event/${encodeURIComponent(eventId)}`)
    return status === 200 ? body.pdus[0] : undefined
  }

  /** Sends PDUs in one transaction. The answer has an error or `{}` for each event ID. */
  readonly send = async (pdus: ReadonlyArray<object>) => {
    const origin_server_ts = Date.now()
    const transaction = `${origin_server_ts}-${Math.random().toString(36).slice(2)}`
    const content = { origin: this.signer.serverName, origin_server_ts, pdus }
    const { body, status } = await this.call("PUT", `v1/send/${transaction}`, content)
    return { status, pdus: (body.pdus ?? {}) as { readonly [eventId: string]: { readonly error?: string } }, body }
  }
}
