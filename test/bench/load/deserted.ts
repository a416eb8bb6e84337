/** Makes a room with members who are to be moved to other servers, and one of the owner alone. */
import { serveLoad } from "../LoadProcess.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { createRoom, createTodaysRoom, join, onConnections, register } from "./People.ts"

export interface DesertedInput {
  readonly url: string
  /** How many members, each of whom is to be on a server of their own. */
  readonly servers: number
  /** The rooms have a version of today's. */
  readonly today?: boolean
}

export interface Deserted {
  /** The token of who may send to both rooms. */
  readonly owner: string
  readonly desertedRoom: string
  readonly localRoom: string
}

serveLoad(async ({ servers, today, url }: DesertedInput): Promise<Deserted> => {
  const [owner] = await register(url, "staying", 1)
  const { token } = owner!
  const connection = await HttpConnection.open(url)
  const create = today === true ? createTodaysRoom : createRoom
  const desertedRoom = await create(connection, token)
  const localRoom = await create(connection, token)
  const people = await register(url, "away", servers)
  await onConnections(url, 8, servers, (connection, index) => join(connection, people[index]!.token, desertedRoom))
  return { owner: token, desertedRoom, localRoom }
})
