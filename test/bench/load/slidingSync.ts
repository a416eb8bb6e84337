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
  /** A message in a window of the most recent rooms, which moves with each. */
  readonly windowed: Percentiles
  /** The same with a list of rooms that are not encrypted. */
  readonly filtered: Percentiles
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

const unencrypted = { is_encrypted: false, not_room_types: ["m.space"] }

const body = (last: number, filters: object) =>
  JSON.stringify({
    conn_id: "room-list",
    lists: { all_rooms: { ranges: [[0, last]], timeline_limit: 1, required_state: requiredState, filters } },
    extensions: { account_data: enabled, e2ee: enabled, receipts: enabled, to_device: enabled, typing: enabled }
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

/** A user, and how long its requests took. */
interface Reader {
  readonly turn: (kind: Kind, turn: number) => Promise<void>
  readonly page: () => Promise<void>
  /** Widens the window until the client has all rooms, as clients do. */
  readonly readAll: () => Promise<void>
  readonly sync: () => Sync
  readonly close: () => void
}

type Kind = "message" | "windowed" | "filtered"

const makeReader = async (url: string, token: string, rooms: number): Promise<Reader> => {
  const ids = await fill(url, token, rooms)
  const connection = await HttpConnection.open(url)
  let pos: string | undefined
  let size = 0
  const ask = async (last: number, filters: object, from?: string) => {
    const query = from === undefined ? "" : `?pos=${encodeURIComponent(from)}`
    const begin = performance.now()
    const answer = await connection.request("POST", `${path}${query}`, token, body(last, filters))
    const time = performance.now() - begin
    const json = await jsonOf<{ pos: string; rooms: object }>(Promise.resolve(answer))
    pos = json.pos
    size = from === undefined ? answer.size : size
    return { time, rooms: Object.keys(json.rooms).length }
  }
  const { time: first } = await ask(19, {})
  const requests = { message: [rooms, {}], windowed: [19, {}], filtered: [19, unencrypted] } as const
  const times: { readonly [kind in Kind]: Array<number> } = { message: [], windowed: [], filtered: [] }
  const pages: Array<number> = []
  const nothing: Array<number> = []
  return {
    /** The first requests after those of another kind bring the client's rooms in line with theirs, and are not measured. */
    turn: async (kind, turn) => {
      const target = `${prefix}/rooms/${encodeURIComponent(ids.at(turn % ids.length)!)}/send/m.room.message/${kind}${turn}`
      await jsonOf(connection.request("PUT", target, token, JSON.stringify({ msgtype: "m.text", body: "news" })))
      const [last, filters] = requests[kind]
      const news = await ask(last, filters, pos)
      const rest = await ask(last, filters, pos)
      if (turn < 0) return
      if (news.rooms !== 1) throw new Error(`A message is news in ${news.rooms} rooms`)
      times[kind].push(news.time)
      if (kind === "message") nothing.push(rest.time)
    },
    page: async () => {
      pages.push((await ask(19, {})).time)
    },
    readAll: async () => {
      for (let got = 1; got > 0; ) got = (await ask(rooms, {}, pos)).rooms
    },
    sync: () => ({
      first,
      page: percentiles(pages),
      size,
      message: percentiles(times.message),
      windowed: percentiles(times.windowed),
      filtered: percentiles(times.filtered),
      nothing: percentiles(nothing)
    }),
    close: () => connection.close()
  }
}

/** The readers alternate, so that other load on the machine affects all of them. */
const measure = async (readers: ReadonlyArray<Reader>, turns: number): Promise<void> => {
  for (let turn = 0; turn < turns; turn++) for (const reader of readers) await reader.page()
  for (const reader of readers) await reader.readAll()
  for (const kind of ["message", "windowed", "filtered"] as const) {
    for (let turn = -2; turn < turns; turn++) for (const reader of readers) await reader.turn(kind, turn)
  }
}

serveLoad(async ({ few, many, turns, url }: SlidingSyncInput): Promise<SlidingSync> => {
  const people = await register(url, "reader", 3)
  const [warm, a, b] = people.map(({ token }) => token)
  // The first requests let the program be compiled.
  const first = await makeReader(url, warm!, Math.min(few, 30))
  await measure([first], turns)
  const fewRooms = await makeReader(url, a!, few)
  const manyRooms = await makeReader(url, b!, many)
  await measure([fewRooms, manyRooms], turns)
  for (const reader of [first, fewRooms, manyRooms]) reader.close()
  return { few: fewRooms.sync(), many: manyRooms.sync() }
})
