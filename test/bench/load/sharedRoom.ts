/** A room of a version of today's with people of one server, and a guest from another one. */
import { serveLoad } from "../LoadProcess.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { createTodaysRoom, join, jsonOf, prefix, register } from "./People.ts"

export interface SharedRoomInput {
  readonly here: string
  readonly there: string
  readonly hereName: string
  readonly senders: number
}

export interface SharedRoom {
  /** The room, as it stands in paths. */
  readonly room: string
  readonly tokens: ReadonlyArray<string>
  readonly guest: string
  /** The position of the guest's stream. */
  readonly from: string
}

serveLoad(async ({ here, hereName, senders, there }: SharedRoomInput): Promise<SharedRoom> => {
  const people = await register(here, "talker", senders)
  const [guest] = await register(there, "absent", 1)
  const connection = await HttpConnection.open(here)
  const remote = await HttpConnection.open(there)
  const room = await createTodaysRoom(connection, people[0]!.token)
  for (const { token } of people.slice(1)) await join(connection, token, room)
  await join(remote, guest!.token, room, hereName)
  const { end } = await jsonOf<{ end: string }>(
    remote.request("GET", `${prefix}/events?from=END&timeout=0`, guest!.token)
  )
  return { room, tokens: people.map(({ token }) => token), guest: guest!.token, from: end }
})
