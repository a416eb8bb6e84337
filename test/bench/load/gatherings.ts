/** Makes rooms with a sender and members each. */
import { serveLoad } from "../LoadProcess.ts"
import { createRoom, join, onConnections, register } from "./People.ts"

export interface GatheringsInput {
  readonly url: string
  readonly rooms: number
  /** Beside the sender. */
  readonly membersOfRoom: number
}

export interface Gatherings {
  /** The rooms, as they stand in paths. */
  readonly rooms: ReadonlyArray<string>
  /** The token of the sender of each room. */
  readonly senders: ReadonlyArray<string>
  /** The members, each with the room that they are in. */
  readonly members: ReadonlyArray<{ readonly token: string; readonly room: string }>
}

serveLoad(async ({ membersOfRoom, rooms: total, url }: GatheringsInput): Promise<Gatherings> => {
  const senders = (await register(url, "sender", total)).map(({ token }) => token)
  const rooms = await onConnections(url, 8, total, (connection, index) => createRoom(connection, senders[index]!))
  const people = await register(url, "member", total * membersOfRoom)
  const members = people.map(({ token }, index) => ({ token, room: rooms[index % total]! }))
  await onConnections(url, 8, members.length, (connection, index) =>
    join(connection, members[index]!.token, members[index]!.room)
  )
  return { rooms, senders, members }
})
