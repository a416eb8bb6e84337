/** Registers the audience of a room: a sender who makes it, and those who join. */
import { serveLoad } from "../LoadProcess.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { createRoom, join, onConnections, register } from "./People.ts"

export interface AudienceInput {
  readonly url: string
  readonly members: number
  /** The prefix of the users' names. */
  readonly name?: string
}

export interface Audience {
  readonly sender: string
  /** The tokens of the members. */
  readonly members: ReadonlyArray<string>
  /** The room, as it stands in paths. */
  readonly room: string
}

serveLoad(async ({ members, name = "", url }: AudienceInput): Promise<Audience> => {
  const connection = await HttpConnection.open(url)
  const [sender] = await register(url, `${name}sender`, 1)
  const room = await createRoom(connection, sender!.token)
  const people = await register(url, `${name}member`, members)
  await onConnections(url, 8, members, (connection, index) => join(connection, people[index]!.token, room))
  return { sender: sender!.token, members: people.map(({ token }) => token), room }
})
