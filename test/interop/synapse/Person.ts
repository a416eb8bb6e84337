/** A user of a server, as a client of the current API. */
import { randomBytes, randomUUID } from "node:crypto"
import type { Body } from "../../support/Curl.ts"
import type { Registered } from "../../support/Synapse.ts"
import { privateKey, publicKey, signature, unpadded } from "./SignedJson.ts"

export type Json = { readonly [key: string]: unknown }

const path = (...parts: ReadonlyArray<string>) => parts.map(encodeURIComponent).join("/")

export class Person {
  readonly id: string
  /** The session, for client libraries. */
  readonly session: Registered
  readonly url: string
  private readonly token: string

  constructor(url: string, registered: Registered) {
    this.url = url
    this.id = registered.user_id
    this.session = registered
    this.token = registered.access_token
  }

  readonly call = async (method: string, endpoint: string, body?: unknown): Promise<Body> => {
    const response = await fetch(`${this.url}/_matrix/client/v3/${endpoint}`, {
      method,
      headers: { Authorization: `Bearer ${this.token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${this.id} ${method} ${endpoint}: ${response.status} ${text}`)
    return JSON.parse(text)
  }

  /** A request with any path and body. */
  readonly raw = async (method: string, target: string, body?: Buffer, type?: string): Promise<Response> => {
    const response = await fetch(this.url + target, {
      method,
      headers: { Authorization: `Bearer ${this.token}`, ...(type === undefined ? {} : { "Content-Type": type }) },
      ...(body === undefined ? {} : { body: new Uint8Array(body) })
    })
    if (!response.ok) throw new Error(`${this.id} ${method} ${target}: ${response.status} ${await response.text()}`)
    return response
  }

  /** Uploads random keys of the device, so that other users learn that it has keys. */
  readonly uploadKeys = async (): Promise<void> => {
    const { device_id, user_id } = this.session
    const key = privateKey(randomBytes(32))
    const device_keys = {
      user_id,
      device_id,
      algorithms: ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
      keys: { [`curve25519:${device_id}`]: unpadded(randomBytes(32)), [`ed25519:${device_id}`]: publicKey(key) }
    }
    const signatures = { [user_id]: { [`ed25519:${device_id}`]: signature(device_keys, key) } }
    await this.call("POST", "keys/upload", { device_keys: { ...device_keys, signatures } })
  }

  readonly createRoom = async (options: Json): Promise<string> =>
    (await this.call("POST", "createRoom", options)).room_id

  /** Returns the event ID. */
  readonly sendText = async (room: string, text: string): Promise<string> =>
    this.send(room, "m.room.message", { msgtype: "m.text", body: text })

  readonly send = async (room: string, type: string, content: Json): Promise<string> =>
    (await this.call("PUT", path("rooms", room, "send", type, randomUUID()), content)).event_id

  readonly set = async (room: string, type: string, content: Json, stateKey = ""): Promise<string> =>
    (await this.call("PUT", path("rooms", room, "state", type, stateKey), content)).event_id

  readonly redact = async (room: string, event: string, reason = "wrong"): Promise<string> =>
    (await this.call("PUT", path("rooms", room, "redact", event, randomUUID()), { reason })).event_id

  readonly state = (room: string): Promise<ReadonlyArray<Body>> => this.call("GET", path("rooms", room, "state"))

  readonly content = (room: string, type: string, stateKey = ""): Promise<Body> =>
    this.call("GET", path("rooms", room, "state", type, stateKey))

  readonly join = (room: string, via?: string) =>
    this.call(
      "POST",
      `join/${encodeURIComponent(room)}${via === undefined ? "" : `?via=${encodeURIComponent(via)}`}`,
      {}
    )

  readonly knock = (room: string, via?: string) =>
    this.call(
      "POST",
      `knock/${encodeURIComponent(room)}${via === undefined ? "" : `?via=${encodeURIComponent(via)}`}`,
      {
        reason: "please"
      }
    )

  readonly invite = (room: string, whom: Person) =>
    this.call("POST", path("rooms", room, "invite"), { user_id: whom.id })
  readonly kick = (room: string, whom: Person) =>
    this.call("POST", path("rooms", room, "kick"), { user_id: whom.id, reason: "kicked" })
  readonly ban = (room: string, whom: Person) =>
    this.call("POST", path("rooms", room, "ban"), { user_id: whom.id, reason: "banned" })
  readonly unban = (room: string, whom: Person) => this.call("POST", path("rooms", room, "unban"), { user_id: whom.id })
  readonly leave = (room: string) => this.call("POST", path("rooms", room, "leave"), {})

  readonly has = (room: string, event: string): Promise<boolean> =>
    this.call("GET", path("rooms", room, "event", event)).then(
      () => true,
      () => false
    )
}
