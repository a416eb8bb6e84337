/** An HTTP server on a free port that stores its requests, as the web service for text messages or as a home server. */
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Context, Effect, Queue, type Scope } from "effect"

export interface ReceivedRequest {
  readonly method: string
  readonly path: string
  readonly headers: { readonly [name: string]: string | ReadonlyArray<string> | undefined }
  readonly body: unknown
}

export interface WebServer {
  readonly url: string
  /** Waits for the next request. */
  readonly take: Effect.Effect<ReceivedRequest>
  /** The number of requests not yet taken. */
  readonly waiting: Effect.Effect<number>
  /** Sets the statuses of the next answers. The last one is used for all further ones. */
  readonly answer: (...statuses: ReadonlyArray<number>) => void
  /** Sets the text of all further answers, which is `{}` at first. */
  readonly says: (text: string) => void
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

export const makeWebServer: Effect.Effect<WebServer, never, Scope.Scope> = Effect.gen(function* () {
  const requests = yield* Queue.unbounded<ReceivedRequest>()
  let statuses: ReadonlyArray<number> = [200]
  let said = "{}"
  const url = yield* serveHttp((request, response) => {
    let text = ""
    request.setEncoding("utf8")
    request.on("data", (chunk: string) => {
      text += chunk
    })
    request.on("end", () => {
      const status = statuses[0]!
      if (statuses.length > 1) statuses = statuses.slice(1)
      response.writeHead(status, { "content-type": "application/json", location: "http://127.0.0.1:1/" }).end(said)
      Queue.offerUnsafe(requests, {
        method: request.method!,
        path: request.url!,
        headers: request.headers,
        body: parse(text)
      })
    })
  })
  return {
    url,
    take: Queue.take(requests),
    waiting: Queue.size(requests),
    answer: (...next) => {
      statuses = next
    },
    says: (text) => {
      said = text
    }
  }
})

/** The web service for text messages. */
export class SmsService extends Context.Service<SmsService, WebServer>()("greenroom/identity/test/SmsService") {}

/** A home server to notify of bound addresses. */
export class HomeServer extends Context.Service<HomeServer, WebServer>()("greenroom/identity/test/HomeServer") {}
