/** Sends messages by HTTP, each sender on a connection of their own, as fast as they are answered. */
import { serveLoad } from "../LoadProcess.ts"
import { type ClosedLoop, closedLoop, type Throughput } from "./Closed.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, prefix, todayPrefix } from "./People.ts"

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
  const body = JSON.stringify({
    msgtype: "m.text",
    body: "What is said in this room is what people say to one another"
  })
  const sent = await closedLoop(loop, tokens.length, async (worker, turn) => {
    const path = `${today ? todayPrefix : prefix}/rooms/${rooms[worker]}/send/m.room.message/${run}.${worker}.${turn}`
    const answer = await connections[worker]!.request("PUT", path, tokens[worker]!, body)
    if (answer.status !== 200) await jsonOf(Promise.resolve(answer))
  })
  for (const connection of connections) connection.close()
  return sent
})
