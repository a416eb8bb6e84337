/** Puts a user into many rooms with many messages, and asks for their initialSync. */
import { serveLoad } from "../LoadProcess.ts"
import { type Percentiles, percentiles } from "../Percentiles.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { createRoom, join, jsonOf, onConnections, prefix, register, todayPrefix } from "./People.ts"

export interface InitialSyncInput {
  readonly url: string
  /** Of a server without rooms: how many bytes it is to answer. */
  readonly size?: number
  readonly rooms: number
  readonly limit: number
  readonly turns: number
  /** Asks by `/sync` with lazy members instead, for a user who is in the rooms already. */
  readonly syncAs?: string
}

export interface InitialSync extends Percentiles {
  readonly size: number
  readonly token: string
}

/** Rooms of ten people, with a few messages more than are asked for. */
const fill = async ({ limit, rooms, url }: InitialSyncInput): Promise<string> => {
  const people = await register(url, "reader", 10)
  await onConnections(url, 8, rooms, async (connection, index) => {
    const owner = people[index % people.length]!.token
    const room = await createRoom(connection, owner)
    for (const { token } of people) if (token !== owner) await join(connection, token, room)
    for (let turn = 0; turn < limit + 5; turn++) {
      const body = JSON.stringify({ msgtype: "m.text", body: `What was said in this room as number ${turn}` })
      const { token } = people[turn % people.length]!
      await jsonOf(connection.request("PUT", `${prefix}/rooms/${room}/send/m.room.message/${turn}`, token, body))
    }
  })
  return people[0]!.token
}

serveLoad(async (input: InitialSyncInput): Promise<InitialSync> => {
  const token = input.syncAs ?? (input.size === undefined ? await fill(input) : "nobody")
  const connection = await HttpConnection.open(input.url)
  const filter = { room: { timeline: { limit: input.limit }, state: { lazy_load_members: true } } }
  const path =
    input.syncAs === undefined
      ? `${prefix}/initialSync?limit=${input.limit}${input.size === undefined ? "" : `&size=${input.size}`}`
      : `${todayPrefix}/sync?filter=${encodeURIComponent(JSON.stringify(filter))}`
  const times: Array<number> = []
  let size = 0
  for (let turn = 0; turn < input.turns + 2; turn++) {
    const begin = performance.now()
    const answer = await connection.request("GET", path, token)
    if (turn >= 2) times.push(performance.now() - begin)
    size = answer.size
  }
  return { size, token, ...percentiles(times) }
})
