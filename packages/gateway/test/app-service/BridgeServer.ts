/**
 * An application service for tests: a real HTTP server that records the requests it gets, and answers as the test sets.
 */
import type { IncomingMessage } from "node:http"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Context, Effect, Layer, Queue } from "effect"

export interface Received {
  readonly method: string
  readonly path: string
  readonly authorization: string | undefined
  readonly text: string
}

export interface SentEvent {
  readonly event_id: string
  readonly type: string
  readonly room_id: string
  readonly sender: string
  readonly state_key?: string
  readonly content: { readonly [key: string]: unknown }
  readonly unsigned?: {
    readonly invite_room_state?: ReadonlyArray<{ readonly type: string; readonly content: object }>
  }
}

export interface Transaction {
  readonly path: string
  readonly text: string
  readonly events: ReadonlyArray<SentEvent>
  readonly ephemeral: ReadonlyArray<{ readonly type: string; readonly room_id?: string; readonly content: object }>
}

/** The status of an answer, and its JSON, or the text of it, if it has any. */
export type Reply = (
  received: Received
) => Promise<{ readonly status: number; readonly json?: unknown; readonly text?: string }>

const textOf = async (request: IncomingMessage) => {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString("utf8")
}

const isTransaction = ({ path }: Received) => path.startsWith("/_matrix/app/v1/transactions/")

export class BridgeServer extends Context.Service<
  BridgeServer,
  {
    readonly url: string
    /** All requests, oldest first. */
    readonly received: Array<Received>
    /** The next transaction that was answered 200. */
    readonly nextTransaction: Effect.Effect<Transaction>
    /** Answers the requests: by default with 200 and `{}`. */
    replyWith: Reply
  }
>()("greenroom/gateway/test/BridgeServer") {
  static readonly layer = Layer.effect(
    BridgeServer,
    Effect.gen(function* () {
      const transactions = yield* Queue.unbounded<Transaction>()
      const received: Array<Received> = []
      const url = yield* serveHttp(async (request, response) => {
        const text = await textOf(request)
        const { authorization } = request.headers
        const entry: Received = { method: request.method!, path: request.url!, authorization, text }
        received.push(entry)
        const { json = {}, status, text: answer = JSON.stringify(json) } = await bridge.replyWith(entry)
        if (isTransaction(entry) && status === 200) {
          Queue.offerUnsafe(transactions, { path: entry.path, text, ephemeral: [], ...JSON.parse(text) })
        }
        response.writeHead(status, { "content-type": "application/json" }).end(answer)
      })
      const bridge: BridgeServer["Service"] = {
        url,
        received,
        nextTransaction: Queue.take(transactions),
        replyWith: async () => ({ status: 200 })
      }
      return bridge
    })
  )
}
