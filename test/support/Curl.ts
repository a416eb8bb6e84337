/**
 * Requests as curl sends them: `curl -X PUT -d '{"typing": true}' "$URL/...?access_token=$TOKEN"`. The body is JSON, whatever the
 * content type.
 */
import * as http from "node:http"
import { Effect } from "effect"

/** A body of an answer. */
// biome-ignore lint/suspicious/noExplicitAny: tests assert the shape
export type Body = any

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly text: string
  /** The body, undefined if it is not JSON. */
  readonly body: Body
}

export interface CurlOptions {
  /** The access token, as a query parameter. */
  readonly token?: string
  /** The access token, as `Authorization: Bearer`. */
  readonly bearer?: string
  /** As `-d`: sent as JSON, a string unchanged. */
  readonly data?: unknown
  /** Headers instead of those that curl sends. */
  readonly headers?: { readonly [name: string]: string }
}

const parse = (text: string): Body => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 512 })

const headersOf = ({ bearer, data, headers }: CurlOptions, body: string | undefined) => ({
  accept: "*/*",
  ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
  ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
  ...(headers ?? (data === undefined ? {} : { "content-type": "application/x-www-form-urlencoded" }))
})

const withToken = (path: string, token: string | undefined) =>
  token === undefined ? path : `${path}${path.includes("?") ? "&" : "?"}access_token=${encodeURIComponent(token)}`

/** Sends a request to a path of the server. Returns the whole answer, and dies if there is none. */
export const curl = (url: string, method: string, path: string, options: CurlOptions = {}): Effect.Effect<Answer> =>
  Effect.callback<Answer>((resume) => {
    const data =
      options.data === undefined || typeof options.data === "string" ? options.data : JSON.stringify(options.data)
    const { hostname, port } = new URL(url)
    const request = http.request(
      { agent, method, hostname, port, path: withToken(path, options.token), headers: headersOf(options, data) },
      (response) => {
        const parts: Array<Buffer> = []
        response.on("data", (part: Buffer) => parts.push(part))
        response.on("end", () => {
          const text = Buffer.concat(parts).toString()
          const { headers, statusCode: status = 0 } = response
          resume(Effect.succeed({ status, headers, text, body: parse(text) }))
        })
      }
    )
    request.on("error", (error) => resume(Effect.die(error)))
    request.end(data)
    return Effect.sync(() => request.destroy())
  })
