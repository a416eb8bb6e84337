/** Makes a public room of today's versions with many members and much other state. */
import { serveLoad } from "../LoadProcess.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { createTodaysRoom, join, jsonOf, onConnections, register, todayPrefix } from "./People.ts"

export interface BigRoomInput {
  readonly url: string
  readonly members: number
  /** State events beside the memberships. */
  readonly state: number
}

serveLoad(async ({ members, state, url }: BigRoomInput): Promise<string> => {
  const [owner] = await register(url, "owner", 1)
  const { token } = owner!
  const connection = await HttpConnection.open(url)
  const room = await createTodaysRoom(connection, token)
  const people = await register(url, "member", members)
  await onConnections(url, 16, members, (connection, index) => join(connection, people[index]!.token, room))
  await onConnections(url, 16, state, (connection, index) => {
    const path = `${todayPrefix}/rooms/${room}/state/org.greenroom.bench/key${index}`
    return jsonOf(connection.request("PUT", path, token, JSON.stringify({ value: `of state ${index}` })))
  })
  return decodeURIComponent(room)
})
