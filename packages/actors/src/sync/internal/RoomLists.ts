/**
 * The rooms of the users that sync by windows, the most recent first. A list is read once, at the first request of its user,
 * and then follows the event log: an event costs one step for its room, however many users are in it. `RoomOrders` keeps the rooms in
 * their order.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { accountDataChanges } from "@greenroom/store/AccountDataChange"
import { EventLog, type LogSlice, type StreamedEvent, type StreamedMembership } from "@greenroom/store/EventLog"
import { withoutAllowance } from "@greenroom/store/LargeReads"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { SlidingRoomStore } from "@greenroom/store/SlidingRoomStore"
import { comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { periodically } from "@greenroom/store/Supervision"
import { Effect, Latch } from "effect"
import { inviteRuleTypes } from "../../room/InvitePermission.ts"
import { RecentMoves } from "./RecentMoves.ts"
import { RecentReceipts } from "./RecentReceipts.ts"
import { makeRoomOrders, type OrderedRooms, type RoomOrder, type UserRoom, type UserRooms } from "./RoomOrders.ts"

/** The idle time after which a list is dropped, in milliseconds. */
const keptFor = 5 * 60_000

/** How many rooms the lists of this node have together; the lists that were not asked for longest make room. */
const maxListed = 2_000_000

interface RoomList extends OrderedRooms {
  readonly rooms: Map<number, UserRoom>
  /** Keys: room IDs. */
  readonly numbers: Map<RoomId, number>
  version: number
  /** The position from which on the moves of these rooms are complete. */
  completeFrom: StreamPosition
  lastUsed: number
}

/** Account data that decide which rooms a list shows. */
const listTypes: ReadonlySet<string> = new Set(["m.direct", "m.tag", "m.ignored_user_list", ...inviteRuleTypes])

const isInside = (membership: string) => membership === "join" || membership === "invite" || membership === "knock"

export const makeRoomLists = Effect.gen(function* () {
  const log = yield* EventLog
  const store = yield* SlidingRoomStore
  const lists = new Map<UserId, RoomList>()
  /** Lists that are being read: they get the changes of that time afterwards. */
  const loading = new Map<UserId, { readonly slices: Array<LogSlice>; readonly list: Effect.Effect<RoomList> }>()
  /** The last event of each room that is in a list. */
  const latest = new Map<number, StreamPosition>()
  /** Rooms in lists that had an event. */
  const moves = new RecentMoves<number>()
  let next = Latch.makeUnsafe(false)

  const touch = (roomNid: number, position: StreamPosition) => {
    const known = latest.get(roomNid)
    latest.set(roomNid, known === undefined ? position : laterPosition(known, position))
  }

  /** A room that the user has left is in no list; one from which the user was removed stays in the list. */
  const apply = (list: RoomList, change: StreamedMembership, event: StreamedEvent["event"] | undefined) => {
    const { membership, position, roomId, roomNid, userId } = change
    const { rooms } = list
    const before = rooms.get(roomNid)
    if (before !== undefined && comparePositions(position, before.changedAt) <= 0 && before.membership === membership) {
      return
    }
    list.version++
    const thrownOut = before?.membership === "join" && event?.sender !== userId
    rooms.set(roomNid, { roomNid, roomId, membership, changedAt: position, listed: isInside(membership) || thrownOut })
    list.numbers.set(roomId, roomNid)
    if (!latest.has(roomNid)) latest.set(roomNid, position)
  }

  const take = (slice: LogSlice, users: ReadonlyMap<UserId, RoomList>) => {
    if (slice.memberships.length > 0) {
      const events = new Map(slice.events.map(({ event, position }) => [position.nid, event]))
      for (const change of slice.memberships) {
        const list = users.get(change.userId)
        if (list !== undefined) apply(list, change, events.get(change.position.nid))
      }
    }
    for (const { row } of rowsOf(slice.rows, accountDataChanges)) {
      const list = listTypes.has(row.type) ? users.get(row.userId) : undefined
      if (list !== undefined) list.version++
    }
  }

  let position = yield* log.follow((slice) =>
    Effect.sync(() => {
      take(slice, lists)
      for (const { event, position, roomNid } of slice.events) {
        if (!latest.has(roomNid)) continue
        touch(roomNid, position)
        moves.add(roomNid, position)
        if (event.type !== "m.room.encryption" || event.state_key !== "") continue
        for (const list of lists.values()) if (list.rooms.has(roomNid)) list.version++
      }
      receipts.take(slice)
      for (const { slices } of loading.values()) slices.push(slice)
      position = slice.last ?? position
      const reached = next
      next = Latch.makeUnsafe(false)
      reached.openUnsafe()
    })
  )

  const receipts = new RecentReceipts(position)

  /** Waits until the lists have everything up to a position that this node has read. */
  const reached = (wanted: StreamPosition): Effect.Effect<void> =>
    Effect.suspend(() =>
      comparePositions(position, wanted) >= 0 ? Effect.void : Effect.flatMap(next.await, () => reached(wanted))
    )

  const load = Effect.fnUntraced(function* (userId: UserId, slices: ReadonlyArray<LogSlice>) {
    const found = yield* store.roomsOf(userId)
    const lastUsed = yield* monotonicMillis
    const list: RoomList = {
      rooms: new Map(),
      numbers: new Map(),
      version: 0,
      completeFrom: position,
      orders: new Map(),
      lastUsed
    }
    for (const { membership, position, roomId, roomNid } of found) {
      list.rooms.set(roomNid, { roomNid, roomId, membership, changedAt: position, listed: true })
      list.numbers.set(roomId, roomNid)
      touch(roomNid, position)
    }
    const own = new Map([[userId, list]])
    for (const slice of slices) {
      take(slice, own)
      for (const { position, roomNid } of slice.events) if (list.rooms.has(roomNid)) touch(roomNid, position)
    }
    lists.set(userId, list)
    return list
  })

  const listOf = (userId: UserId): Effect.Effect<RoomList> =>
    Effect.suspend(() => {
      const known = lists.get(userId)
      if (known !== undefined) return Effect.succeed(known)
      const reading = loading.get(userId)
      if (reading !== undefined) return reading.list
      const slices: Array<LogSlice> = []
      const list = Effect.runSync(
        Effect.cached(
          Effect.onExit(Effect.uninterruptible(withoutAllowance(load(userId, slices))), () =>
            Effect.sync(() => loading.delete(userId))
          )
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

  /** The sort position of a room in the list: users other than members must not see what happens there. */
  const standing = ({ changedAt, membership, roomNid }: UserRoom): StreamPosition =>
    membership === "join" ? (latest.get(roomNid) ?? changedAt) : changedAt

  const { keep, known, sorted } = makeRoomOrders(standing, moves)
  const all = () => true

  const orderOf = (list: RoomList): RoomOrder => known(list, "") ?? keep(list, "", sorted(list, all))

  return {
    /** The position of the last row of the log; the lists have everything up to there. */
    currentPosition: Effect.gen(function* () {
      const wanted = yield* log.currentPosition
      yield* reached(wanted)
      return laterPosition(position, wanted)
    }),
    /** All rooms of a user. */
    of: Effect.fnUntraced(function* (userId: UserId) {
      const list = yield* listOf(userId)
      list.lastUsed = yield* monotonicMillis
      return list as UserRooms
    }),
    standing,
    /** Whether a room may have receipts from after a position. */
    hasReceipts: ({ roomId }: UserRoom, after: StreamPosition): boolean => receipts.mayHave(roomId, after),
    /** The rooms with receipts from after a position; undefined if any room may have some. */
    roomsWithReceipts: (after: StreamPosition): ReadonlySet<RoomId> | undefined => receipts.rooms(after),
    /** The rooms of a user that had an event after a position, among others; undefined if any may have had one. */
    moved: (userRooms: UserRooms, after: StreamPosition): ReadonlySet<number> | undefined =>
      comparePositions(after, (userRooms as RoomList).completeFrom) < 0 ? undefined : moves.after(after),
    /** The rooms that are in a user's list, and whether there are invitations among them. */
    listed: (userRooms: UserRooms): Pick<RoomOrder, "hasInvitations"> & { readonly rooms: ReadonlyArray<UserRoom> } =>
      orderOf(userRooms as RoomList),
    /**
     * The listed rooms that pass a filter, the most recent last. They move with the log. `passes` is read if the filter is not
     * kept for this version of the user's rooms.
     */
    filtered: Effect.fnUntraced(function* <E>(
      userRooms: UserRooms,
      filter: string,
      passes: Effect.Effect<(room: UserRoom) => boolean, E>
    ) {
      const list = userRooms as RoomList
      const order = known(list, filter)
      if (order !== undefined) return order.rooms as ReadonlyArray<UserRoom>
      // A change while the filter is read gives another version.
      const { version } = list
      const test = yield* passes
      return keep(list, filter, { ...sorted(list, test), version }).rooms as ReadonlyArray<UserRoom>
    }),
    /** A room of a user by its ID. */
    find: (userRooms: UserRooms, roomId: RoomId): UserRoom | undefined => {
      const { numbers, rooms } = userRooms as RoomList
      const roomNid = numbers.get(roomId)
      return roomNid === undefined ? undefined : rooms.get(roomNid)
    }
  }
})

export type RoomLists = Effect.Success<typeof makeRoomLists>
