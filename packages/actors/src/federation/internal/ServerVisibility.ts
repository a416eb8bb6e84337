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
import { type StateKey, StateStore } from "@greenroom/store/StateStore"
import { Effect } from "effect"
import { ErasedUsers } from "../../room/ErasedUsers.ts"

const visibilityType = "m.room.history_visibility"

/** The most users of a server whose memberships are checked. */
const maxUsers = 200

const isOpen = (event: Event | undefined): boolean => {
  const visibility = event?.content.history_visibility
  return visibility !== "joined" && visibility !== "invited"
}

export const makeServerVisibility = Effect.gen(function* () {
  const events = yield* EventStore
  const states = yield* StateStore
  const roomServers = yield* RoomServerStore
  const erased = yield* ErasedUsers

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
    const users = yield* roomServers.usersEver(roomNid, origin, maxUsers)
    const keys: ReadonlyArray<StateKey> = [
      [visibilityType, ""],
      ...users.map((userId): StateKey => ["m.room.member", userId])
    ]
    const known = yield* events.visibilityStates(asked)
    const refs = known.flatMap((ref, index) => (ref === undefined ? [] : [{ roomNid: index, ref }]))
    const before = Map.groupBy(yield* states.read(refs, { keys }), (entry) => entry.roomNid)
    asked.forEach(({ event, status }, index) => {
      const state = (before.get(index) ?? []).map((entry) => entry.event)
      // The room was restricted at some time, perhaps before a back-filled event whose state is not known.
      const isUnknown = known[index] === undefined && status === EventStatus.backfilled
      if (isUnknown ? !isOfTheirs(origin, event) : !isVisible(origin, event, state)) hidden.add(event.event_id)
    })
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

const isVisible = (origin: ServerName, event: Event, state: ReadonlyArray<Event>): boolean => {
  if (isOfTheirs(origin, event)) return true
  const visibility = state.find(({ type }) => type === visibilityType)
  const memberships = state.filter(({ type }) => type === "m.room.member").map(({ content }) => content.membership)
  if (isOpen(visibility)) return true
  return (
    memberships.includes("join") ||
    (visibility?.content.history_visibility === "invited" && memberships.includes("invite"))
  )
}
