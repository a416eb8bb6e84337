/**
 * A push gateway on a loopback address that keeps the notifications it gets, and answers as the test sets.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect, Queue } from "effect"

export interface Received {
  readonly event_id?: string
  readonly counts: { readonly unread?: number }
  readonly devices: ReadonlyArray<{ readonly pushkey: string; readonly [key: string]: unknown }>
  readonly [key: string]: unknown
}

/** With `before` each answer waits for that. */
export const pushReceiverThat = Effect.fnUntraced(function* (before: (notification: Received) => Promise<unknown>) {
  const received = yield* Queue.unbounded<Received>()
  const answers: Array<{ readonly status: number; readonly body: object }> = []
  const server = createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk) => chunks.push(chunk))
    request.on("end", async () => {
      const { notification } = JSON.parse(Buffer.concat(chunks).toString()) as { notification: Received }
      Queue.offerUnsafe(received, notification)
      await before(notification)
      const { body, status } = answers.shift() ?? { status: 200, body: { rejected: [] } }
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body))
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/_matrix/push/v1/notify`,
    /** The next notification, in the order in which they came. */
    next: Queue.take(received),
    /** Answers the next request so, and the ones after it as before. */
    answerNext: (status: number, body: object = {}) => answers.push({ status, body })
  }
})

export const pushReceiver = pushReceiverThat(() => Promise.resolve())
