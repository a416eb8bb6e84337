/**
 * The setup of load programs: users, rooms and memberships, made by the client API with a few requests at a time.
 */
import { HttpConnection } from "./HttpConnection.ts"

export const prefix = "/_matrix/client/api/v1"
/** Of today's API. */
export const todayPrefix = "/_matrix/client/v3"

export interface Person {
  readonly userId: string
  readonly token: string
}

/** The body of an answer that must be a success. */
export const jsonOf = async <A>(answer: ReturnType<HttpConnection["request"]>): Promise<A> => {
  const { body, status } = await answer
  if (status !== 200) throw new Error(`An answer with ${status}: ${body.toString().slice(0, 300)}`)
  return JSON.parse(body.toString()) as A
}

/** Runs a task for each of the numbers below `total`, on `width` connections side by side. */
export const onConnections = async <A>(
  url: string,
  width: number,
  total: number,
  task: (connection: HttpConnection, index: number) => Promise<A>
): Promise<ReadonlyArray<A>> => {
  const results = new Array<A>(total)
  let next = 0
  const work = async () => {
    const connection = await HttpConnection.open(url)
    while (next < total) {
      const index = next++
      results[index] = await task(connection, index)
    }
    connection.close()
  }
  await Promise.all(Array.from({ length: Math.min(width, total) }, work))
  return results
}

/** Registers `total` users whose names begin with `name`. Without a password, which costs the server nothing to hash. */
export const register = (url: string, name: string, total: number, password?: string): Promise<ReadonlyArray<Person>> =>
  onConnections(url, 16, total, async (connection, index) => {
    const body = JSON.stringify({ user_id: `${name}${index}`, ...(password === undefined ? {} : { password }) })
    const answer = await jsonOf<{ user_id: string; access_token: string }>(
      connection.request("POST", `${prefix}/register`, undefined, body)
    )
    return { userId: answer.user_id, token: answer.access_token }
  })

/** Makes a public room. Returns its ID as it stands in paths. */
export const createRoom = async (connection: HttpConnection, token: string): Promise<string> => {
  const body = JSON.stringify({ visibility: "public" })
  const { room_id } = await jsonOf<{ room_id: string }>(connection.request("POST", `${prefix}/createRoom`, token, body))
  return encodeURIComponent(room_id)
}

/** `through` is a server by which the room is reached whose ID names none. */
export const join = async (
  connection: HttpConnection,
  token: string,
  room: string,
  through?: string
): Promise<void> => {
  const path =
    through === undefined ? `${prefix}/join/${room}` : `${todayPrefix}/join/${room}?via=${encodeURIComponent(through)}`
  await jsonOf(connection.request("POST", path, token, "{}"))
}

/** Makes a public room of a version of today's. Returns its ID as it stands in paths. */
export const createTodaysRoom = async (
  connection: HttpConnection,
  token: string,
  room_version = "12"
): Promise<string> => {
  const body = JSON.stringify({ preset: "public_chat", room_version })
  const made = connection.request("POST", `${todayPrefix}/createRoom`, token, body)
  return encodeURIComponent((await jsonOf<{ room_id: string }>(made)).room_id)
}
