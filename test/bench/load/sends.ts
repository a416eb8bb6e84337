/** Sends messages by HTTP, each sender on a connection of their own, as fast as they are answered. */
import { serveLoad } from "../LoadProcess.ts"
import { type ClosedLoop, closedLoop, type Throughput } from "./ClosedLoop.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { sendMessage } from "./messages.ts"

export interface SendsInput extends ClosedLoop {
  readonly url: string
  readonly tokens: ReadonlyArray<string>
  /** The room that each sends to. */
  readonly rooms: ReadonlyArray<string>
  /** Makes the transaction IDs of this run its own. */
  readonly run: string
  /** Whether to send by today's API. */
  readonly today?: boolean
}

serveLoad(async ({ rooms, run, today = false, tokens, url, ...loop }: SendsInput): Promise<Throughput> => {
  const connections = await Promise.all(tokens.map(() => HttpConnection.open(url)))
  const sent = await closedLoop(loop, tokens.length, (worker, turn) =>
    sendMessage(connections[worker]!, {
      token: tokens[worker]!,
      room: rooms[worker]!,
      transaction: `${run}.${worker}.${turn}`,
      today
    })
  )
  for (const connection of connections) connection.close()
  return sent
})
