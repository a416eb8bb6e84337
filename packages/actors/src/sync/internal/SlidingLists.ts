/**
 * Which rooms a request of sliding sync asks for: those in the windows of its lists, and those that it subscribes to.
 *
 * Source: "Lists and subscriptions" of MSC4186.
 */
import type { SlidingFilters, SlidingList, SlidingSyncBody } from "@greenroom/protocol/client-server/SlidingSyncApi"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { InvalidParam } from "@greenroom/protocol/MatrixError"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { SlidingRoomStore } from "@greenroom/store/SlidingRoomStore"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect, Option } from "effect"
import { makeIgnoredUsers } from "../../room/IgnoredUsers.ts"
import { allowAll, makeInvitePermission } from "../../room/InvitePermission.ts"
import type { RoomLists } from "./RoomLists.ts"
import type { UserRoom, UserRooms } from "./RoomOrders.ts"
import { makeRoomConfigs, type RoomConfig } from "./SlidingRequest.ts"

/** For how many rooms their type is known. */
const maxTypes = 200_000

/** The longest filter, as JSON with the states of its spaces, whose rooms are kept in order between two requests. */
const maxFilterLength = 12_000

/** A room that is asked for. */
export interface WantedRoom {
  readonly room: UserRoom
  readonly config: RoomConfig
  readonly lists: ReadonlyArray<string>
  readonly isSubscribed: boolean
}

export interface Wanted {
  readonly counts: { readonly [list: string]: { readonly count: number } }
  /** Keys: numbers of rooms. The most recent rooms of the first list come first. */
  readonly rooms: ReadonlyMap<number, WantedRoom>
  /**
   * Whether the same request asks for the same rooms for as long as the version of the user's rooms is the same: all lists are
   * shown as a whole, and filtered by what that version covers.
   */
  readonly isSteady: boolean
}

type Test = (room: UserRoom) => boolean

/** The state of a room at one time. */
interface RoomStateRef {
  readonly roomNid: number
  readonly ref: StateRef
}

/** The ranges of a list in order, with overlapping ones merged, so that each room of the list is read once. */
const rangesOf = ({ range, ranges }: SlidingList, size: number): ReadonlyArray<readonly [number, number]> => {
  const merged: Array<[number, number]> = []
  for (const [from, to] of (ranges ?? [range ?? [0, size]]).toSorted(([a], [b]) => a - b)) {
    const last = merged.at(-1)
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else merged.push([from, to])
  }
  return merged
}

/** Whether one of the ranges shows all rooms of a list. */
const isWhole = (ranges: ReadonlyArray<readonly [number, number]>, size: number): boolean =>
  size === 0 || ranges.some(([from, to]) => from === 0 && to >= size - 1)

/** Whether which rooms pass is the same for as long as the version of the user's rooms is: spaces change without it. */
const isFilteredSteadily = ({ spaces }: SlidingFilters): boolean => spaces == null

/** The rooms of a list in its ranges, the most recent first. */
function* shownIn(
  rooms: ReadonlyArray<UserRoom>,
  ranges: ReadonlyArray<readonly [number, number]>
): Generator<UserRoom> {
  for (const [from, to] of ranges) {
    for (let index = from; index <= to && index < rooms.length; index++) yield rooms[rooms.length - 1 - index]!
  }
}

const nothing: ReadonlySet<number> = new Set()

/** The rooms that `m.direct` names. */
const directRooms = (content: { readonly [userId: string]: unknown } | undefined): ReadonlySet<string> =>
  new Set(
    Object.values(content ?? {})
      .flatMap((roomIds) => (Array.isArray(roomIds) ? roomIds : []))
      .filter((roomId) => typeof roomId === "string")
  )

export const makeSlidingLists = Effect.fnUntraced(function* (lists: RoomLists) {
  const accountData = yield* AccountDataStore
  const store = yield* SlidingRoomStore
  const states = yield* StateStore
  const sync = yield* SyncStore
  const ignoredUsers = yield* makeIgnoredUsers
  const invitePermission = yield* makeInvitePermission
  // Both are replaced by new ones when they are full, so that a request that is under way keeps those that it began with.
  /** The types of rooms, null for rooms without one: a room keeps its type. */
  let allTypes = new Map<number, string | null>()
  /** Encrypted rooms. Rooms that are encrypted stay so. */
  let allEncrypted = new Set<number>()

  const typesOf = Effect.fnUntraced(function* (rooms: ReadonlyArray<UserRoom>) {
    if (allTypes.size > maxTypes) allTypes = new Map()
    const types = allTypes
    const unknown = rooms.flatMap(({ roomNid }) => (types.has(roomNid) ? [] : [roomNid]))
    for (const [roomNid, type] of yield* store.typesOf(unknown)) types.set(roomNid, type)
    return types as ReadonlyMap<number, string | null>
  })

  const isOfType = (types: ReadonlyMap<number, string | null>, wanted: ReadonlyArray<string | null>): Test => {
    const allowed = new Set(wanted)
    return ({ roomNid }) => allowed.has(types.get(roomNid) ?? null)
  }

  const isEncrypted = Effect.fnUntraced(function* (rooms: ReadonlyArray<UserRoom>) {
    if (allEncrypted.size > maxTypes) allEncrypted = new Set()
    const encrypted = allEncrypted
    const unknown = rooms.flatMap(({ roomNid }) => (encrypted.has(roomNid) ? [] : [roomNid]))
    for (const roomNid of yield* store.encrypted(unknown)) encrypted.add(roomNid)
    return ({ roomNid }: UserRoom) => encrypted.has(roomNid)
  })

  /** Whether a room has one of these tags. */
  const isTagged = Effect.fnUntraced(function* (userId: UserId) {
    const tags = new Map<RoomId, ReadonlySet<string>>()
    for (const { content, roomId } of yield* accountData.ofType(userId, "m.tag")) {
      const named = content.tags
      if (typeof named === "object" && named !== null) tags.set(roomId, new Set(Object.keys(named)))
    }
    return (wanted: ReadonlyArray<string>): Test =>
      ({ roomId }) =>
        wanted.some((tag) => tags.get(roomId)?.has(tag))
  })

  /** The present states of those of the named spaces that the user is in. */
  const spaceStates = Effect.fnUntraced(function* (userRooms: UserRooms, spaces: ReadonlyArray<string>) {
    const joined = [...new Set(spaces)].flatMap((roomId) => {
      const room = lists.find(userRooms, roomId as RoomId)
      return room?.membership === "join" ? [room.roomNid] : []
    })
    if (joined.length === 0) return []
    const at = yield* lists.currentPosition
    const refs = yield* sync.statesAt(joined.map((roomNid) => ({ roomNid, at })))
    return Array.from(refs, ([roomNid, ref]) => ({ roomNid, ref }))
  })

  /** Whether a room is in a space that has one of these states. */
  const isInSpaces = Effect.fnUntraced(function* (spaces: ReadonlyArray<RoomStateRef>) {
    const children = yield* states.read(spaces, { types: ["m.space.child"] })
    const found = new Set(
      children.filter(({ event }) => Array.isArray(event.content.via)).map(({ event }) => event.state_key)
    )
    return ({ roomId }: UserRoom) => found.has(roomId)
  })

  /** The filter of a list. */
  const testsOf = Effect.fnUntraced(function* (
    userId: UserId,
    rooms: ReadonlyArray<UserRoom>,
    filters: SlidingFilters,
    spaces: ReadonlyArray<RoomStateRef> | undefined,
    direct: ReadonlySet<string>
  ): Effect.fn.Return<ReadonlyArray<Test>> {
    const { is_dm, is_encrypted, not_room_types, not_tags, room_types, tags } = filters
    const is_invited = filters.is_invited ?? filters.is_invite
    const tests: Array<Test> = []
    if (is_invited != null) tests.push(({ membership }) => (membership === "invite") === is_invited)
    if (is_dm != null) tests.push(({ roomId }) => direct.has(roomId) === is_dm)
    if (room_types != null) tests.push(isOfType(yield* typesOf(rooms), room_types))
    if (not_room_types != null) {
      const isExcluded = isOfType(yield* typesOf(rooms), not_room_types)
      tests.push((room) => !isExcluded(room))
    }
    if (is_encrypted != null) {
      const test = yield* isEncrypted(rooms)
      tests.push((room) => test(room) === is_encrypted)
    }
    if (tags != null || not_tags != null) {
      const hasOneOf = yield* isTagged(userId)
      if (tags != null) tests.push(hasOneOf(tags))
      const isExcluded = hasOneOf(not_tags ?? [])
      tests.push((room) => !isExcluded(room))
    }
    if (spaces !== undefined) tests.push(yield* isInSpaces(spaces))
    return tests
  })

  /** The rooms to which ignored users invite the user, or those whose invitations the user does not want. */
  const unwelcomeOf = Effect.fnUntraced(function* (userId: UserId) {
    const [ignored, verdict] = yield* Effect.all([ignoredUsers.of(userId), invitePermission.of(userId)])
    if (ignored.size === 0 && verdict === allowAll) return nothing
    const inviters = [...(yield* store.inviters(userId))]
    const isUnwelcome = (inviter: UserId) => ignored.has(inviter) || verdict(inviter) !== "allow"
    return new Set(inviters.flatMap(([roomNid, inviter]) => (isUnwelcome(inviter) ? [roomNid] : [])))
  })

  /** Whether a listed room passes a filter. */
  const testOf = Effect.fnUntraced(function* (
    userId: UserId,
    userRooms: UserRooms,
    filters: SlidingFilters,
    spaces: ReadonlyArray<RoomStateRef> | undefined,
    direct: ReadonlySet<string>
  ) {
    const { hasInvitations, rooms } = lists.listed(userRooms)
    const unwelcome = hasInvitations ? yield* unwelcomeOf(userId) : nothing
    const tests = yield* testsOf(userId, rooms, filters, spaces, direct)
    return ((room) =>
      (room.membership !== "invite" || !unwelcome.has(room.roomNid)) && tests.every((test) => test(room))) as Test
  })

  /** The listed rooms that pass a filter, the most recent last. */
  const passing = Effect.fnUntraced(function* (
    userId: UserId,
    userRooms: UserRooms,
    filters: SlidingFilters,
    direct: ReadonlySet<string>
  ) {
    const spaces = filters.spaces == null ? undefined : yield* spaceStates(userRooms, filters.spaces)
    const test = testOf(userId, userRooms, filters, spaces, direct)
    const name = JSON.stringify([filters, spaces])
    if (name.length <= maxFilterLength) return yield* lists.filtered(userRooms, name, test)
    const passes = yield* test
    return lists.listed(userRooms).rooms.filter(passes)
  })

  return {
    /** The direct rooms of a user, by `m.direct`. */
    direct: (userId: UserId) =>
      Effect.map(accountData.get(userId, undefined, "m.direct"), (content) =>
        directRooms(Option.getOrUndefined(content))
      ),
    wanted: Effect.fnUntraced(function* (
      userId: UserId,
      userRooms: UserRooms,
      { lists: given, room_subscriptions }: SlidingSyncBody,
      direct: ReadonlySet<string>
    ): Effect.fn.Return<Wanted, InvalidParam> {
      const configs = makeRoomConfigs(userId)
      const wanted = new Map<number, WantedRoom>()
      const counts = new Map<string, { readonly count: number }>()
      let isSteady = true
      for (const [name, list] of Object.entries(given ?? {})) {
        const config = yield* configs.read(list)
        const filters = list.filters ?? {}
        const passed = yield* passing(userId, userRooms, filters, direct)
        counts.set(name, { count: passed.length })
        const ranges = rangesOf(list, passed.length)
        isSteady &&= isFilteredSteadily(filters) && isWhole(ranges, passed.length)
        const names = [name]
        for (const room of shownIn(passed, ranges)) {
          const before = wanted.get(room.roomNid)
          wanted.set(room.roomNid, {
            room,
            config: configs.combine(before?.config, config),
            lists: before === undefined ? names : [...before.lists, name],
            isSubscribed: false
          })
        }
      }
      for (const [roomId, subscription] of Object.entries(room_subscriptions ?? {})) {
        const room = lists.find(userRooms, roomId as RoomId)
        if (subscription == null || room === undefined || !room.listed) continue
        if (room.membership === "invite" && (yield* unwelcomeOf(userId)).has(room.roomNid)) continue
        const before = wanted.get(room.roomNid)
        wanted.set(room.roomNid, {
          room,
          config: configs.combine(before?.config, yield* configs.read(subscription)),
          lists: before?.lists ?? [],
          isSubscribed: true
        })
      }
      return { counts: Object.fromEntries(counts), rooms: wanted, isSteady }
    })
  }
})

export type SlidingLists = Effect.Success<ReturnType<typeof makeSlidingLists>>
