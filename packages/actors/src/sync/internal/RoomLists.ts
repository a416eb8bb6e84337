/**
 * The rooms of the users who sync by windows, the most recent first. A list is read once, when its user comes, and then
 * follows the event log: an event costs one step for its room, independent of its members.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog, type LogSlice, type StreamedEvent, type StreamedMembership } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { receiptChanges } from "@greenroom/store/ReceiptStore"
import { SlidingRoomStore } from "@greenroom/store/SlidingRoomStore"
import { beginning, comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect, Latch } from "effect"
import { periodically } from "../../runtime/Supervision.ts"

/** For how long a list is kept without being asked for, in milliseconds. */
const keptFor = 5 * 60_000

/** How many rooms the lists of this node have together; the lists that were not asked for longest make room. */
const maxListed = 2_000_000

/** For how many rooms the last receipt is known. */
const maxReceipts = 100_000

export interface UserRoom {
  readonly roomNid: number
  readonly roomId: RoomId
  readonly membership: string
  /** Where the membership began, or where the room stood when the list was read. */
  readonly changedAt: StreamPosition
  /** Whether the room is in the user's list: left rooms are only sent to clients that know them. */
  readonly listed: boolean
}

interface UserRooms {
  readonly rooms: Map<number, UserRoom>
  lastUsed: number
}

const isInside = (membership: string) => membership === "join" || membership === "invite" || membership === "knock"

/** How many rooms are looked through at a time, for each that is wanted. */
const perWanted = 8

/** The `most` rooms that stand highest, in order. A small window of many rooms costs one comparison for most of them. */
const newest = (
  rooms: ReadonlyArray<UserRoom>,
  most: number,
  standing: (room: UserRoom) => StreamPosition
): ReadonlyArray<UserRoom> => {
  const found: Array<{ readonly room: UserRoom; readonly at: StreamPosition }> = []
  const keepNewest = () => {
    found.sort((a, b) => comparePositions(b.at, a.at))
    if (found.length > most) found.length = most
  }
  let lowest: StreamPosition | undefined
  for (const room of rooms) {
    const at = standing(room)
    if (lowest !== undefined && comparePositions(at, lowest) <= 0) continue
    found.push({ room, at })
    if (found.length < most * perWanted) continue
    keepNewest()
    lowest = found.at(-1)?.at
  }
  keepNewest()
  return found.map(({ room }) => room)
}

export const makeRoomLists = Effect.gen(function* () {
  const log = yield* EventLog
  const store = yield* SlidingRoomStore
  const lists = new Map<UserId, UserRooms>()
  /** Lists that are being read: they get what happens meanwhile afterwards. */
  const loading = new Map<UserId, { readonly slices: Array<LogSlice>; readonly list: Effect.Effect<UserRooms> }>()
  /** The last event of each room that is in a list. */
  const latest = new Map<number, StreamPosition>()
  /** The last receipt in each room where there was one after `receiptsSince`. */
  const receipts = new Map<RoomId, StreamPosition>()
  let receiptsSince = beginning
  let next = Latch.makeUnsafe(false)

  const touch = (roomNid: number, position: StreamPosition) => {
    const known = latest.get(roomNid)
    latest.set(roomNid, known === undefined ? position : laterPosition(known, position))
  }

  /** A user who leaves knows it; a user who is kicked or banned sees the room in the list. */
  const apply = ({ rooms }: UserRooms, change: StreamedMembership, event: StreamedEvent["event"] | undefined) => {
    const { membership, position, roomId, roomNid, userId } = change
    const before = rooms.get(roomNid)
    if (before !== undefined && comparePositions(position, before.changedAt) <= 0 && before.membership === membership) {
      return
    }
    const thrownOut = before?.membership === "join" && event?.sender !== userId
    rooms.set(roomNid, { roomNid, roomId, membership, changedAt: position, listed: isInside(membership) || thrownOut })
    if (!latest.has(roomNid)) latest.set(roomNid, position)
  }

  const take = (slice: LogSlice, users: ReadonlyMap<UserId, UserRooms>) => {
    if (slice.memberships.length > 0) {
      const events = new Map(slice.events.map(({ event, position }) => [position.nid, event]))
      for (const change of slice.memberships) {
        const list = users.get(change.userId)
        if (list !== undefined) apply(list, change, events.get(change.position.nid))
      }
    }
  }

  const takeReceipts = (slice: LogSlice) => {
    for (const { position, row } of rowsOf(slice.rows, receiptChanges)) {
      receipts.delete(row.roomId)
      receipts.set(row.roomId, position)
    }
    if (receipts.size <= maxReceipts) return
    for (const [roomId, position] of receipts) {
      if (receipts.size <= maxReceipts / 2) break
      receiptsSince = laterPosition(receiptsSince, position)
      receipts.delete(roomId)
    }
  }

  let position = yield* log.follow((slice) =>
    Effect.sync(() => {
      for (const { position, roomNid } of slice.events) if (latest.has(roomNid)) touch(roomNid, position)
      take(slice, lists)
      takeReceipts(slice)
      for (const { slices } of loading.values()) slices.push(slice)
      position = slice.last ?? position
      const reached = next
      next = Latch.makeUnsafe(false)
      reached.openUnsafe()
    })
  )

  receiptsSince = position

  /** Waits until the lists have everything up to a position that this node has read. */
  const reached = (wanted: StreamPosition): Effect.Effect<void> =>
    Effect.suspend(() =>
      comparePositions(position, wanted) >= 0 ? Effect.void : Effect.flatMap(next.await, () => reached(wanted))
    )

  const load = Effect.fnUntraced(function* (userId: UserId, slices: ReadonlyArray<LogSlice>) {
    const found = yield* store.roomsOf(userId)
    const list: UserRooms = { rooms: new Map(), lastUsed: yield* monotonicMillis }
    for (const { membership, position, roomId, roomNid } of found) {
      list.rooms.set(roomNid, { roomNid, roomId, membership, changedAt: position, listed: true })
      touch(roomNid, position)
    }
    const own = new Map([[userId, list]])
    for (const slice of slices) {
      for (const { position, roomNid } of slice.events) if (list.rooms.has(roomNid)) touch(roomNid, position)
      take(slice, own)
    }
    lists.set(userId, list)
    return list
  })

  const listOf = (userId: UserId): Effect.Effect<UserRooms> =>
    Effect.suspend(() => {
      const known = lists.get(userId)
      if (known !== undefined) return Effect.succeed(known)
      const reading = loading.get(userId)
      if (reading !== undefined) return reading.list
      const slices: Array<LogSlice> = []
      const list = Effect.runSync(
        Effect.cached(
          Effect.onExit(Effect.uninterruptible(load(userId, slices)), () => Effect.sync(() => loading.delete(userId)))
        )
      )
      loading.set(userId, { slices, list })
      return list
    })

  const forgetUnused = Effect.map(monotonicMillis, (now) => {
    let listed = 0
    const byUse = [...lists].sort(([, a], [, b]) => b.lastUsed - a.lastUsed)
    for (const [userId, { lastUsed, rooms }] of byUse) {
      listed += rooms.size
      if (listed > maxListed || now - lastUsed > keptFor) lists.delete(userId)
    }
    const used = new Set<number>()
    for (const { rooms } of lists.values()) for (const roomNid of rooms.keys()) used.add(roomNid)
    // A list that is being read has put its rooms there already.
    if (loading.size === 0) for (const roomNid of latest.keys()) if (!used.has(roomNid)) latest.delete(roomNid)
  })
  yield* periodically("Forgetting room lists", keptFor / 2, forgetUnused)

  /** Where a room stands in the list: others than members must not see what happens there. */
  const standing = ({ changedAt, membership, roomNid }: UserRoom): StreamPosition =>
    membership === "join" ? (latest.get(roomNid) ?? changedAt) : changedAt

  return {
    /** Where the log ends now; the lists have everything up to there. */
    currentPosition: Effect.gen(function* () {
      const wanted = yield* log.currentPosition
      yield* reached(wanted)
      return laterPosition(position, wanted)
    }),
    /** All rooms of a user, by number. */
    of: Effect.fnUntraced(function* (userId: UserId) {
      const list = yield* listOf(userId)
      list.lastUsed = yield* monotonicMillis
      return list.rooms as ReadonlyMap<number, UserRoom>
    }),
    standing,
    /** Whether a room may have receipts from after a position. */
    hasReceipts: ({ roomId }: UserRoom, after: StreamPosition): boolean => {
      if (comparePositions(after, receiptsSince) < 0) return true
      const last = receipts.get(roomId)
      return last !== undefined && comparePositions(last, after) > 0
    },
    /** The rooms that are in a user's list, in no order. */
    listed: (rooms: ReadonlyMap<number, UserRoom>): ReadonlyArray<UserRoom> =>
      Array.from(rooms.values()).filter(({ listed }) => listed),
    /** The `most` most recent of these rooms, the most recent first. */
    newest: (rooms: ReadonlyArray<UserRoom>, most: number): ReadonlyArray<UserRoom> => newest(rooms, most, standing)
  }
})

export type RoomLists = Effect.Success<typeof makeRoomLists>
