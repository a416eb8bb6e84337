/**
 * A push gateway on a loopback address that records the notifications it gets, and answers as the test sets.
 */
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Effect, Queue } from "effect"

export interface Received {
  readonly event_id?: string
  readonly counts: { readonly unread?: number }
  readonly devices: ReadonlyArray<{ readonly pushkey: string; readonly [key: string]: unknown }>
  readonly [key: string]: unknown
}

/** A push gateway that waits for `before` before it answers a notification. */
export const pushReceiverThat = Effect.fnUntraced(function* (before: (notification: Received) => Promise<unknown>) {
  const received = yield* Queue.unbounded<Received>()
  const answers: Array<{ readonly status: number; readonly body: object }> = []
  const url = yield* serveHttp((request, response) => {
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
  return {
    url: `${url}/_matrix/push/v1/notify`,
    /** The next notification, in the order in which they came. */
    next: Queue.take(received),
    /** Sets the answer to the next notification. Later ones are accepted. */
    answerNext: (status: number, body: object = {}) => answers.push({ status, body })
  }
})

export const pushReceiver = pushReceiverThat(() => Promise.resolve())
