/**
 * An application service for tests: a real HTTP server that keeps the requests it gets, and answers as the test sets.
 */
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
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
}

export interface Transaction {
  readonly path: string
  readonly text: string
  readonly events: ReadonlyArray<SentEvent>
  readonly ephemeral: ReadonlyArray<{ readonly type: string; readonly room_id?: string; readonly content: object }>
}

/** The status of an answer, and its JSON if it has any. */
export type Reply = (received: Received) => Promise<{ readonly status: number; readonly json?: unknown }>

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
    /** Makes the answers. By default 200 with `{}`. */
    replyWith: Reply
  }
>()("greenroom/gateway/test/BridgeServer") {
  static readonly layer = Layer.effect(
    BridgeServer,
    Effect.gen(function* () {
      const transactions = yield* Queue.unbounded<Transaction>()
      const received: Array<Received> = []
      const server = createServer(async (request, response) => {
        const text = await textOf(request)
        const { authorization } = request.headers
        const taken: Received = { method: request.method!, path: request.url!, authorization, text }
        received.push(taken)
        const { json = {}, status } = await bridge.replyWith(taken)
        if (isTransaction(taken) && status === 200) {
          Queue.offerUnsafe(transactions, { path: taken.path, text, ephemeral: [], ...JSON.parse(text) })
        }
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json))
      })
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () =>
          Effect.callback<void>((resume) => {
            server.closeAllConnections()
            server.close(() => resume(Effect.void))
          })
      )
      const bridge: BridgeServer["Service"] = {
        url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        received,
        nextTransaction: Queue.take(transactions),
        replyWith: async () => ({ status: 200 })
      }
      return bridge
    })
  )
}
