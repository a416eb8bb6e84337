/**
 * Which events of a room another server may see: by `m.room.history_visibility` and the memberships of its users, both as
 * they were at the event. Events of erased users are visible to no other server: what servers that were in the room keep
 * of them is theirs to decide. Events that a server may not see are redacted, so that the event graph stays whole.
 *
 * Source: "Room history visibility" of the client-server specification, "Backfilling" of the server-server one.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { type StateKey, type StateRef, StateStore } from "@greenroom/store/StateStore"
import { Array as Arr, Effect } from "effect"
import { ErasedUsers } from "../../room/ErasedUsers.ts"

const visibilityType = "m.room.history_visibility"

/**
 * How many users of a server have their memberships read at once, and of how many it is done. Those who are in the room come first, the
 * longest there before the others: mostly one of the first decides. An event that none of so many admits stays hidden.
 */
const usersAtOnce = 200
const maxUsers = 2_000

/** The memberships that admit a server to an event. Undefined if every server that is in the room now may see it. */
const admittingOf = (event: Event | undefined): ReadonlySet<unknown> | undefined => {
  const visibility = event?.content.history_visibility
  if (visibility === "joined") return new Set(["join"])
  return visibility === "invited" ? new Set(["join", "invite"]) : undefined
}

const isOpen = (event: Event | undefined): boolean => admittingOf(event) === undefined

/** Back-filled events, among them redactions that clients do not receive and events that were rejected. */
const mayBeHistory: ReadonlySet<EventStatus> = new Set([
  EventStatus.backfilled,
  EventStatus.withheld,
  EventStatus.rejected
])

/** A state, and the events before which it was the state of the room. */
interface StateBefore {
  readonly ref: StateRef
  readonly events: ReadonlyArray<Event>
}

export const makeServerVisibility = Effect.gen(function* () {
  const events = yield* EventStore
  const states = yield* StateStore
  const roomServers = yield* RoomServerStore
  const erased = yield* ErasedUsers

  /** Some keys of several states. */
  const readKeys = Effect.fnUntraced(function* (befores: ReadonlyArray<StateBefore>, keys: ReadonlyArray<StateKey>) {
    const refs = befores.map(({ ref }, index) => ({ roomNid: index, ref }))
    const found = Map.groupBy(yield* states.read(refs, { keys }), (entry) => entry.roomNid)
    return befores.map((_, index) => (found.get(index) ?? []).map(({ event }) => event))
  })

  /** The states in which no user of the server has a membership that admits it. */
  const restrictedIn = Effect.fnUntraced(function* (
    roomNid: number,
    origin: ServerName,
    befores: ReadonlyArray<StateBefore>
  ) {
    const visibilities = yield* readKeys(befores, [[visibilityType, ""]])
    let restricted = befores.flatMap((before, index) => {
      const admitting = admittingOf(visibilities[index]![0])
      return admitting === undefined ? [] : [{ ...before, admitting }]
    })
    if (restricted.length === 0) return restricted
    for (const users of Arr.chunksOf(yield* roomServers.usersEver(roomNid, origin, maxUsers), usersAtOnce)) {
      const members = yield* readKeys(
        restricted,
        users.map((userId) => ["m.room.member", userId])
      )
      restricted = restricted.filter(
        ({ admitting }, index) => !members[index]!.some(({ content }) => admitting.has(content.membership))
      )
      if (restricted.length === 0) break
    }
    return restricted
  })

  /** The events of one room that the server may not see. */
  const hiddenIn = Effect.fnUntraced(function* (
    origin: ServerName,
    roomNid: number,
    given: ReadonlyArray<StoredEvent>
  ) {
    const hidden = new Set<string>()
    const isErased = ({ event }: StoredEvent) => erased.has(event.sender)
    if (erased.any()) {
      for (const { event } of given.filter(isErased)) if (!isOfTheirs(origin, event)) hidden.add(event.event_id)
    }
    const history = yield* events.stateHistory(roomNid, visibilityType, "")
    const asked =
      history.isWhole && history.events.every(isOpen) ? [] : given.filter((storedEvent) => !isErased(storedEvent))
    if (asked.length === 0) return hidden
    const known = yield* events.visibilityStates(asked)
    const withState = asked.flatMap(({ event }, index) => {
      const ref = known[index]
      return ref === undefined ? [] : [{ event, ref }]
    })
    const befores = [...Map.groupBy(withState, ({ ref }) => `${ref.chain} ${ref.seq}`).values()].map(
      (of): StateBefore => ({ ref: of[0]!.ref, events: of.map(({ event }) => event) })
    )
    const refused = (yield* restrictedIn(roomNid, origin, befores)).flatMap((before) => before.events)
    // The room was restricted at some time, perhaps before a back-filled event whose state is not known.
    const unknown = asked.filter(({ status }, index) => known[index] === undefined && mayBeHistory.has(status))
    for (const event of [...refused, ...unknown.map((storedEvent) => storedEvent.event)]) {
      if (!isOfTheirs(origin, event)) hidden.add(event.event_id)
    }
    return hidden
  })

  /** The events in their order, those redacted that the server may not see. */
  const redactHidden = Effect.fnUntraced(function* (
    origin: ServerName,
    given: ReadonlyArray<StoredEvent>,
    versions: ReadonlyMap<RoomId, RoomVersion>
  ) {
    const hidden = new Set<string>()
    for (const [roomNid, of] of Map.groupBy(given, (storedEvent) => storedEvent.roomNid)) {
      for (const id of yield* hiddenIn(origin, roomNid, of)) hidden.add(id)
    }
    return given.map(({ event }) =>
      hidden.has(event.event_id) ? (versions.get(event.room_id)?.redact(event) ?? event) : event
    )
  })

  return { redactHidden }
})

/** Whether one of the server's users has sent the event, or it is the membership of one. */
const isOfTheirs = (origin: ServerName, { sender, state_key, type }: Event): boolean =>
  serverNameOf(sender) === origin ||
  (type === "m.room.member" && state_key !== undefined && serverNameOf(state_key as UserId) === origin)
