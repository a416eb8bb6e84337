/** Registers senders: each has a room, and all are in the room of the first. */
import { serveLoad } from "../LoadProcess.ts"
import { createRoom, join, onConnections, register } from "./People.ts"

export interface SendersInput {
  readonly url: string
  readonly senders: number
}

/** The tokens of the senders, and the room that each has made, as it stands in paths. */
export interface Senders {
  readonly tokens: ReadonlyArray<string>
  readonly rooms: ReadonlyArray<string>
}

serveLoad(async ({ senders, url }: SendersInput): Promise<Senders> => {
  const people = await register(url, "sender", senders)
  const rooms = await onConnections(url, 8, senders, (connection, index) =>
    createRoom(connection, people[index]!.token)
  )
  await onConnections(url, 8, senders, (connection, index) => join(connection, people[index]!.token, rooms[0]!))
  return { tokens: people.map(({ token }) => token), rooms }
})
