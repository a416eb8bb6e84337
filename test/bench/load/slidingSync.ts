/** Puts a user into many rooms and another one into few, and asks for their rooms by sliding sync as Element X does. */
import { serveLoad } from "../LoadProcess.ts"
import { type Percentiles, percentiles } from "../Percentiles.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, onConnections, register } from "./People.ts"

export interface SlidingSyncInput {
  readonly url: string
  readonly many: number
  readonly few: number
  readonly turns: number
}

export interface Sync {
  /** The first request of the user, in ms: nothing of theirs is in memory. */
  readonly first: number
  readonly page: Percentiles
  /** Bytes of a first page. */
  readonly size: number
  readonly message: Percentiles
  readonly nothing: Percentiles
}

export interface SlidingSync {
  readonly many: Sync
  readonly few: Sync
}

const prefix = "/_matrix/client/v3"
const path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

const requiredState = [
  ["m.room.create", ""],
  ["m.room.name", ""],
  ["m.room.avatar", ""],
  ["m.room.topic", ""],
  ["m.room.canonical_alias", ""],
  ["m.room.encryption", ""],
  ["m.room.power_levels", ""],
  ["m.room.join_rules", ""],
  ["m.room.history_visibility", ""],
  ["m.room.tombstone", ""],
  ["m.room.pinned_events", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"]
]

const enabled = { enabled: true }

const body = (last: number) =>
  JSON.stringify({
    conn_id: "room-list",
    lists: { all_rooms: { ranges: [[0, last]], timeline_limit: 1, required_state: requiredState } },
    extensions: { account_data: enabled, receipts: enabled, typing: enabled }
  })

/** The IDs of the rooms. */
const fill = (url: string, token: string, rooms: number) =>
  onConnections(url, 16, rooms, async (connection, index) => {
    const room = JSON.stringify({ preset: "private_chat", name: `room ${index}` })
    const { room_id } = await jsonOf<{ room_id: string }>(
      connection.request("POST", `${prefix}/createRoom`, token, room)
    )
    return room_id
  })

const measure = async (url: string, token: string, rooms: number, turns: number): Promise<Sync> => {
  const ids = await fill(url, token, rooms)
  const connection = await HttpConnection.open(url)
  const ask = async (last: number, pos?: string) => {
    const query = pos === undefined ? "" : `?pos=${encodeURIComponent(pos)}`
    const begin = performance.now()
    const answer = await connection.request("POST", `${path}${query}`, token, body(last))
    const time = performance.now() - begin
    const json = await jsonOf<{ pos: string; rooms: object }>(Promise.resolve(answer))
    return { time, size: answer.size, pos: json.pos, rooms: Object.keys(json.rooms).length }
  }
  const { time: first } = await ask(19)
  const pages: Array<number> = []
  let size = 0
  for (let turn = 0; turn < turns; turn++) {
    const answer = await ask(19)
    pages.push(answer.time)
    size = answer.size
  }
  // A client widens its window until it has all rooms.
  let { pos } = await ask(19)
  for (let got = 1; got > 0; ) ({ pos, rooms: got } = await ask(rooms, pos))
  const messages: Array<number> = []
  const nothing: Array<number> = []
  for (let turn = 0; turn < turns; turn++) {
    const target = `${prefix}/rooms/${encodeURIComponent(ids[turn % ids.length]!)}/send/m.room.message/${turn}`
    await jsonOf(connection.request("PUT", target, token, JSON.stringify({ msgtype: "m.text", body: "news" })))
    const news = await ask(rooms, pos)
    if (news.rooms !== 1) throw new Error(`A message is news in ${news.rooms} rooms`)
    messages.push(news.time)
    const rest = await ask(rooms, news.pos)
    nothing.push(rest.time)
    pos = rest.pos
  }
  connection.close()
  return { first, page: percentiles(pages), size, message: percentiles(messages), nothing: percentiles(nothing) }
}

serveLoad(async ({ few, many, turns, url }: SlidingSyncInput): Promise<SlidingSync> => {
  const people = await register(url, "reader", 3)
  const [warm, a, b] = people.map(({ token }) => token)
  // The first requests let the program be compiled.
  await measure(url, warm!, Math.min(few, 30), turns)
  return { few: await measure(url, a!, few, turns), many: await measure(url, b!, many, turns) }
})
