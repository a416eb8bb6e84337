/** A home server that receives transactions: it has the TLS certificate of its name, and the test answers each transaction, or does not. */
import { createServer } from "node:https"
import { tlsCredentials } from "@greenroom/gateway/federation/TlsCredentials"
import { listen } from "@greenroom/gateway/NodeServer"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Queue } from "effect"

/** A received transaction, and the functions that answer it. */
export interface ReceivedTransaction {
  readonly transactionId: string
  readonly body: {
    readonly prev_ids: ReadonlyArray<string>
    readonly pdus: ReadonlyArray<{ readonly pdu_id: string; readonly content: { readonly body: string } }>
    readonly edus?: ReadonlyArray<{ readonly edu_type: string; readonly content: object }>
  }
  readonly answer: (status: number, body: object) => void
  /** Closes the connection without an answer. */
  readonly hangUp: () => void
}

/** Listens on a port until the scope ends. Returns the queue of the received transactions. */
export const rawPeer = Effect.fnUntraced(function* (serverName: ServerName, port: number, dataDir: string) {
  const received = yield* Queue.unbounded<ReceivedTransaction>()
  const credentials = yield* Effect.orDie(tlsCredentials({ serverName, dataDir }))
  const server = createServer(credentials, (request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("error", () => {})
    request.on("end", () => {
      const transactionId = /\/send\/([^/?]+)/.exec(request.url ?? "")?.[1]
      if (transactionId === undefined) return response.writeHead(404).end("{}")
      Queue.offerUnsafe(received, {
        transactionId: decodeURIComponent(transactionId),
        body: JSON.parse(Buffer.concat(chunks).toString()),
        answer: (status, body) => response.writeHead(status).end(JSON.stringify(body)),
        hangUp: () => request.socket.destroy()
      })
      return undefined
    })
  })
  yield* Effect.orDie(listen(server, { host: "127.0.0.1", port }))
  return received
})

/** The next transaction with PDUs. Transactions with EDUs alone are answered. */
export const nextWithPdus = (received: Queue.Queue<ReceivedTransaction>): Effect.Effect<ReceivedTransaction> =>
  Effect.flatMap(Queue.take(received), (transaction) => {
    if (transaction.body.pdus.length > 0) return Effect.succeed(transaction)
    transaction.answer(200, { pdus: {} })
    return nextWithPdus(received)
  })
