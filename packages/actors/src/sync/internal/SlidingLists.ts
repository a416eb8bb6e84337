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
import { StateStore } from "@greenroom/store/StateStore"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect, Option } from "effect"
import { allowAll, makeInvitePermission } from "../../room/InvitePermission.ts"
import { makeIgnoredUsers } from "../../user/IgnoredUsers.ts"
import type { RoomLists, UserRoom, UserRooms } from "./RoomLists.ts"
import { makeRoomConfigs, type RoomConfig } from "./SlidingRequest.ts"

/** For how many rooms their type is known. */
const maxTypes = 200_000

/** A room that is asked for. */
export interface WantedRoom {
  readonly room: UserRoom
  readonly config: RoomConfig
  readonly lists: ReadonlyArray<string>
  readonly isSubscribed: boolean
}

export interface Wanted {
  readonly counts: { readonly [list: string]: { readonly count: number } }
  /** By number; the most recent rooms of the first list come first. */
  readonly rooms: ReadonlyMap<number, WantedRoom>
  /**
   * Whether the same request asks for the same rooms for as long as the version of the user's rooms is the same: all lists are
   * shown as a whole, and filtered by what that version covers.
   */
  readonly isSteady: boolean
}

type Test = (room: UserRoom) => boolean

/** The ranges of a list in order, those that overlap as one: so each room of the list is looked at once. */
const rangesOf = ({ range, ranges }: SlidingList, size: number): ReadonlyArray<readonly [number, number]> => {
  const merged: Array<[number, number]> = []
  for (const [from, to] of (ranges ?? [range ?? [0, size]]).toSorted(([a], [b]) => a - b)) {
    const last = merged.at(-1)
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else if (from <= to) merged.push([from, to])
  }
  return merged
}

/** Whether one of the ranges shows all rooms of a list. */
const isWhole = (ranges: ReadonlyArray<readonly [number, number]>, size: number): boolean =>
  size === 0 || ranges.some(([from, to]) => from === 0 && to >= size - 1)

/** Whether which rooms pass depends on memberships, account data and types of rooms alone. */
const isFilteredSteadily = ({ is_encrypted, spaces }: SlidingFilters): boolean => is_encrypted == null && spaces == null

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
  /** The types of rooms, null for rooms without one: a room keeps its type. */
  const types = new Map<number, string | null>()
  /** Rooms that are encrypted stay so. */
  const encrypted = new Set<number>()

  const typesOf = Effect.fnUntraced(function* (rooms: ReadonlyArray<UserRoom>) {
    const unknown = rooms.flatMap(({ roomNid }) => (types.has(roomNid) ? [] : [roomNid]))
    if (unknown.length === 0) return
    if (types.size > maxTypes) types.clear()
    for (const [roomNid, { content }] of yield* store.newestOf(unknown, "m.room.create")) {
      types.set(roomNid, typeof content.type === "string" ? content.type : null)
    }
  })

  const isOfType = (wanted: ReadonlyArray<string | null>): Test => {
    const allowed = new Set(wanted)
    return ({ roomNid }) => allowed.has(types.get(roomNid) ?? null)
  }

  const isEncrypted = Effect.fnUntraced(function* (rooms: ReadonlyArray<UserRoom>) {
    const unknown = rooms.flatMap(({ roomNid }) => (encrypted.has(roomNid) ? [] : [roomNid]))
    if (encrypted.size > maxTypes) encrypted.clear()
    for (const roomNid of (yield* store.newestOf(unknown, "m.room.encryption")).keys()) encrypted.add(roomNid)
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

  /** Whether a room is in one of these spaces, as far as the user is in them. */
  const isInSpaces = Effect.fnUntraced(function* (rooms: ReadonlyArray<UserRoom>, spaces: ReadonlyArray<string>) {
    const named = new Set(spaces)
    const joined = rooms.filter(({ membership, roomId }) => membership === "join" && named.has(roomId))
    const at = yield* lists.currentPosition
    const refs = yield* sync.statesAt(joined.map(({ roomNid }) => ({ roomNid, at })))
    const children = yield* states.read(
      Array.from(refs, ([roomNid, ref]) => ({ roomNid, ref })),
      { types: ["m.space.child"] }
    )
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
    direct: ReadonlySet<string>
  ): Effect.fn.Return<ReadonlyArray<Test>> {
    const { is_dm, is_encrypted, not_room_types, not_tags, room_types, spaces, tags } = filters
    const is_invited = filters.is_invited ?? filters.is_invite
    const tests: Array<Test> = []
    if (is_invited != null) tests.push(({ membership }) => (membership === "invite") === is_invited)
    if (is_dm != null) tests.push(({ roomId }) => direct.has(roomId) === is_dm)
    if (room_types != null || not_room_types != null) yield* typesOf(rooms)
    if (room_types != null) tests.push(isOfType(room_types))
    if (not_room_types != null) {
      const isExcluded = isOfType(not_room_types)
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
    if (spaces != null) tests.push(yield* isInSpaces(rooms, spaces))
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
      const { hasInvitations, rooms: all } = lists.listed(userRooms)
      const unwelcome = hasInvitations ? yield* unwelcomeOf(userId) : nothing
      const listed =
        unwelcome.size === 0
          ? all
          : all.filter(({ membership, roomNid }) => membership !== "invite" || !unwelcome.has(roomNid))
      const wanted = new Map<number, WantedRoom>()
      const counts: Record<string, { readonly count: number }> = {}
      let isSteady = true
      for (const [name, list] of Object.entries(given ?? {})) {
        const tests = yield* testsOf(userId, listed, list.filters ?? {}, direct)
        const passed = tests.length === 0 ? listed : listed.filter((room) => tests.every((test) => test(room)))
        counts[name] = { count: passed.length }
        const config = yield* configs.read(list)
        const ranges = rangesOf(list, passed.length)
        isSteady &&= isFilteredSteadily(list.filters ?? {}) && isWhole(ranges, passed.length)
        const names = [name]
        for (const [from, to] of ranges) {
          for (const room of passed.slice(from, to + 1)) {
            const before = wanted.get(room.roomNid)
            wanted.set(room.roomNid, {
              room,
              config: configs.combine(before?.config, config),
              lists: before === undefined ? names : [...before.lists, name],
              isSubscribed: false
            })
          }
        }
      }
      const subscribed = new Map(Object.entries(room_subscriptions ?? {}))
      if (subscribed.size === 0) return { counts, rooms: wanted, isSteady }
      for (const room of listed) {
        const subscription = subscribed.get(room.roomId)
        if (subscription == null) continue
        const before = wanted.get(room.roomNid)
        wanted.set(room.roomNid, {
          room,
          config: configs.combine(before?.config, yield* configs.read(subscription)),
          lists: before?.lists ?? [],
          isSubscribed: true
        })
      }
      return { counts, rooms: wanted, isSteady }
    })
  }
})

export type SlidingLists = Effect.Success<ReturnType<typeof makeSlidingLists>>
