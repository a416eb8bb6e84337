/**
 * Which events of a room a user may see: `m.room.history_visibility` and the membership of the user, both as they were at
 * the event.
 *
 * Most rooms never restricted their history, and most readers are joined: they see everything, which takes one look at
 * the events that set the visibility. Otherwise the states before the events are read, all at once.
 *
 * Source: "Room history visibility" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { EventStore, type StateHistory, type StoredEvent } from "@greenroom/store/EventStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type StateKey, StateStore } from "@greenroom/store/StateStore"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect, Option } from "effect"
import { ErasedUsers } from "./ErasedUsers.ts"

/** The values of `history_visibility` in m.room.history_visibility. */
export type Visibility = "world_readable" | "shared" | "invited" | "joined"

const visibilityType = "m.room.history_visibility"

/** The visibility that the event sets, `shared` for an unknown value. */
export const visibilityOf = (event: Event | undefined): Visibility => {
  const value = event?.content.history_visibility
  return value === "world_readable" || value === "invited" || value === "joined" ? value : "shared"
}

const membershipOf = (event: Event | undefined): string => {
  const value = event?.content.membership
  return typeof value === "string" ? value : "leave"
}

/** What the state before an event says. */
interface Before {
  readonly visibility?: Event
  readonly member?: Event
}

/** The reader of the room. */
export interface Reader {
  readonly userId: UserId
  readonly roomNid: number
  readonly isJoined: boolean
  /** When the user left the room last; undefined for users that are joined or never were. */
  readonly leftAt: StreamPosition | undefined
  /** An administrator sees the whole history, whatever its visibility. */
  readonly isAdministrator?: boolean
}

const isVisible = (visibility: Visibility, membership: string, joinedLater: boolean): boolean =>
  visibility === "world_readable" ||
  membership === "join" ||
  (visibility === "shared" && joinedLater) ||
  (visibility === "invited" && membership === "invite")

/** From the least open to the most open. */
export const visibilityOrder: ReadonlyArray<Visibility> = ["joined", "invited", "shared", "world_readable"]
const moreOpen = (a: Visibility, b: Visibility): Visibility =>
  visibilityOrder.indexOf(a) >= visibilityOrder.indexOf(b) ? a : b

/** Whether the settings that a room ever had show the reader everything. */
const seesAll = ({ isAdministrator, isJoined }: Reader, { events: history, isWhole }: StateHistory): boolean => {
  if (isAdministrator === true) return true
  if (!isWhole) return false
  const isOpen = (event: Event) => visibilityOf(event) === "world_readable"
  const isRestricted = (event: Event) => !isOpen(event) && visibilityOf(event) !== "shared"
  return (isJoined && !history.some(isRestricted)) || (history.length > 0 && history.every(isOpen))
}

/** The least open of the settings that a room ever had: for back-filled events before which the state is not known. */
const leastOpen = ({ events: history, isWhole }: StateHistory): Visibility =>
  history
    .map(visibilityOf)
    .reduce(
      (a, b) => (visibilityOrder.indexOf(a) <= visibilityOrder.indexOf(b) ? a : b),
      isWhole ? ("shared" as Visibility) : "joined"
    )

/** Reads which part of the history of a room a user may see. */
export const makeHistoryVisibility = Effect.gen(function* () {
  const events = yield* EventStore
  const states = yield* StateStore
  const rooms = yield* RoomStore
  const erased = yield* ErasedUsers

  /** The visibility and the user's membership in the state before each event, by its index; nothing if that state is not known. */
  const statesBefore = Effect.fnUntraced(function* (stored: ReadonlyArray<StoredEvent>, userId: UserId) {
    const keys: ReadonlyArray<StateKey> = [
      [visibilityType, ""],
      ["m.room.member", userId]
    ]
    const known = yield* events.visibilityStates(stored)
    const refs = known.flatMap((ref, index) => (ref === undefined ? [] : [{ roomNid: index, ref }]))
    const entries = yield* states.read(refs, { keys })
    const found = new Map<number, Before>(refs.map(({ roomNid: index }) => [index, {}]))
    for (const { event, roomNid: index } of entries) {
      const before = found.get(index) ?? {}
      found.set(index, event.type === visibilityType ? { ...before, visibility: event } : { ...before, member: event })
    }
    return found
  })

  const filterByState = Effect.fnUntraced(function* <
    E extends { readonly event: Event; readonly position: StreamPosition }
  >(reader: Reader, read: ReadonlyArray<E>, ofUnknown: Visibility) {
    const byId = new Map(
      (yield* events.byIds(read.map(({ event }) => event.event_id))).map((s) => [s.event.event_id, s])
    )
    const stored = read.map(({ event }) => byId.get(event.event_id)).filter((found) => found !== undefined)
    const before = yield* statesBefore(stored, reader.userId)
    const visible = new Set<string>()
    stored.forEach(({ event, position }, index) => {
      const known = before.get(index)
      const atEvent = known === undefined ? ofUnknown : visibilityOf(known.visibility)
      // The event that changes the visibility, or the user's own membership, is shown if it was visible before or after.
      const seen = event.type === visibilityType ? moreOpen(atEvent, visibilityOf(event)) : atEvent
      const isOwn = event.type === "m.room.member" && event.state_key === reader.userId
      const joinedLater =
        reader.isJoined || (reader.leftAt !== undefined && comparePositions(position, reader.leftAt) <= 0)
      const shown =
        isVisible(seen, membershipOf(known?.member), joinedLater) ||
        (isOwn && (known === undefined || isVisible(seen, membershipOf(event), joinedLater)))
      if (shown) visible.add(event.event_id)
    })
    return read.filter(({ event }) => visible.has(event.event_id))
  })

  /** The events of the room that the reader may see, in the given order. */
  const visibleTo = Effect.fnUntraced(function* <
    E extends { readonly event: Event; readonly position: StreamPosition }
  >(reader: Reader, read: ReadonlyArray<E>): Effect.fn.Return<ReadonlyArray<E>> {
    if (read.length === 0) return read
    const history = yield* events.stateHistory(reader.roomNid, visibilityType, "")
    return yield* pruneErased(
      reader,
      seesAll(reader, history) ? read : yield* filterByState(reader, read, leastOpen(history))
    )
  })

  /** Strips the events of erased users, unless the reader was in the room when they were sent. */
  const pruneErased = Effect.fnUntraced(function* <E extends { readonly event: Event }>(
    reader: Reader,
    read: ReadonlyArray<E>
  ): Effect.fn.Return<ReadonlyArray<E>> {
    if (!erased.any()) return read
    const ofErased = read.flatMap(({ event }) => (erased.has(event.sender) ? [event.event_id] : []))
    if (ofErased.length === 0) return read
    const stored = yield* events.byIds(ofErased)
    const before = yield* statesBefore(stored, reader.userId)
    const unseen = new Set(
      stored.flatMap(({ event }, index) =>
        membershipOf(before.get(index)?.member) === "join" ? [] : [event.event_id as string]
      )
    )
    const id = Option.getOrUndefined(yield* rooms.version(read[0]!.event.room_id))
    const version = id === undefined ? undefined : roomVersion(id)
    return read.map((entry) =>
      unseen.has(entry.event.event_id) && version !== undefined
        ? { ...entry, event: version.redact(entry.event) }
        : entry
    )
  })

  /** The numbers of those of the rooms in which the reader sees every event. */
  const openTo = Effect.fnUntraced(function* (readers: ReadonlyArray<Reader>) {
    if (readers.length === 0) return new Set<number>()
    const histories = yield* events.stateHistories(
      readers.map(({ roomNid }) => roomNid),
      visibilityType,
      ""
    )
    if (erased.any()) return new Set<number>()
    const open = readers.filter((reader) => seesAll(reader, histories.get(reader.roomNid)!))
    return new Set(open.map(({ roomNid }) => roomNid))
  })

  return { visibleTo, openTo, pruneErased }
})
