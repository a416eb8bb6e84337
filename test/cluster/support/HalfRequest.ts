/** A request whose body is sent in two parts. The server begins to handle it after the first. */
import * as http from "node:http"
import { Effect } from "effect"
import type { Person, Scene } from "../../support/Scene.ts"

export interface HalfRequest {
  /** Sends the rest. */
  readonly finish: Effect.Effect<void>
  /** Status and `Retry-After` of the answer. */
  readonly answered: Effect.Effect<{ readonly status: number; readonly retryAfter: string | undefined }>
}

/** Sends a request of a user to a node, with the first byte of the body. */
export const begin = ({ gateway }: Scene, { token }: Person, method: string, path: string, data: object) =>
  Effect.promise(async (): Promise<HalfRequest> => {
    const body = JSON.stringify(data)
    const request = http.request(`${gateway.url}${path}`, {
      agent: false,
      method,
      headers: { authorization: `Bearer ${token}`, "content-length": Buffer.byteLength(body) }
    })
    const answer = new Promise<http.IncomingMessage>((resolve, reject) => {
      request.once("response", resolve).once("error", reject)
    })
    answer.catch(() => {})
    await new Promise((resolve) => request.write(body.slice(0, 1), resolve))
    return {
      finish: Effect.sync(() => void request.end(body.slice(1))),
      answered: Effect.map(
        Effect.promise(() => answer),
        ({ headers, statusCode = 0 }) => ({ status: statusCode, retryAfter: headers["retry-after"] })
      )
    }
  })
