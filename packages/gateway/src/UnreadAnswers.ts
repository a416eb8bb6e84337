/**
 * Bounds the bytes that wait in the memory of this node for clients to read them: large answers by HTTP, and frames of WebSockets.
 * When there are too many, the connections whose bytes have waited longest are closed: these clients do not read. A client whose
 * connection was closed repeats its request.
 */
import type { ServerResponse } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Context, Layer } from "effect"
import { HttpBody, type HttpServerRequest, HttpServerResponse } from "effect/http"

/** How many bytes may wait for all clients together. */
export const maxUnreadBytes = 128 * 1024 * 1024

/** Smaller answers are not counted, because the buffers of a connection may hold as much. */
export const smallestCounted = 64 * 1024

interface Unread {
  readonly bytes: number
  readonly cut: () => void
}

/** Bounds the bytes of answers that clients have not read. */
export class UnreadAnswers extends Context.Service<
  UnreadAnswers,
  {
    /** Counts bytes that wait for a client, until the result is called. `cut` closes the connection of the client. */
    readonly add: (bytes: number, cut: () => void) => () => void
  }
>()("greenroom/gateway/UnreadAnswers") {
  /** `maxBytes` may wait for all clients together. */
  static readonly layer = (maxBytes: number): Layer.Layer<UnreadAnswers> =>
    Layer.sync(UnreadAnswers, () => {
      /** Oldest first. */
      const unread = new Set<Unread>()
      let total = 0
      const remove = (entry: Unread) => {
        if (unread.delete(entry)) total -= entry.bytes
      }
      return UnreadAnswers.of({
        add: (bytes, cut) => {
          const added = { bytes, cut }
          unread.add(added)
          total += bytes
          for (const entry of unread) {
            if (total <= maxBytes) break
            remove(entry)
            entry.cut()
          }
          return () => remove(added)
        }
      })
    })
}

/** Counts the body of a response until it is sent, if it is large. Its text is given up for its bytes: both would be in memory. */
export const countBody = (
  unread: UnreadAnswers["Service"],
  request: HttpServerRequest.HttpServerRequest,
  answer: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse => {
  const { body } = answer
  if (body._tag !== "Uint8Array" || body.contentLength < smallestCounted) return answer
  const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
  countUnread(unread, response, body.contentLength)
  if (body.text === undefined) return answer
  return HttpServerResponse.setBody(answer, HttpBody.uint8Array(body.body, body.contentType))
}

/** Counts bytes of a response until it is sent. */
export const countUnread = (unread: UnreadAnswers["Service"], response: ServerResponse, bytes: number): void => {
  if (response.closed) return
  response.once(
    "close",
    unread.add(bytes, () => response.destroy())
  )
}
