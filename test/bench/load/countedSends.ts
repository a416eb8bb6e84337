/**
 * Sends a number of messages by today's API, each sender on a connection of their own, as fast as they are answered. The connections
 * to each server stay open, so that later runs do not pay for them.
 */
import { serveLoad } from "../LoadProcess.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { sendMessage } from "./messages.ts"

export interface CountedSendsInput {
  readonly url: string
  readonly tokens: ReadonlyArray<string>
  /** The room that each sends to. */
  readonly rooms: ReadonlyArray<string>
  /** Makes the transaction IDs of this run its own. */
  readonly run: string
  /** How many messages each sends. */
  readonly each: number
}

const opened = new Map<string, Promise<ReadonlyArray<HttpConnection>>>()

const connectionsTo = (url: string, count: number): Promise<ReadonlyArray<HttpConnection>> => {
  const connections = opened.get(url) ?? Promise.all(Array.from({ length: count }, () => HttpConnection.open(url)))
  opened.set(url, connections)
  return connections
}

/** How many messages were sent. */
serveLoad(async ({ each, rooms, run, tokens, url }: CountedSendsInput): Promise<number> => {
  const connections = await connectionsTo(url, tokens.length)
  const send = async (connection: HttpConnection, worker: number) => {
    for (let turn = 0; turn < each; turn++) {
      const [token, room] = [tokens[worker]!, rooms[worker]!]
      await sendMessage(connection, { token, room, transaction: `${run}.${worker}.${turn}`, today: true })
    }
  }
  await Promise.all(connections.map(send))
  return each * tokens.length
})
