/**
 * The knowledge of a room that the rules of its version need to authorise an event by its auth events.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import type { AuthContext } from "@greenroom/room/RoomVersion"
import { EventStatus } from "@greenroom/store/EventLog"
import type { KnownEvent, RoomState } from "./RoomState.ts"

/** The IDs of the events that decide whether an event is allowed, by the auth events that it names. */
export const authIdsOf = ({ version }: RoomState, event: Event): ReadonlyArray<EventId> => {
  const create = version.createEventId(event.room_id)
  return create === undefined ? event.auth_events : [...event.auth_events, create]
}

/** `known` has the events that `authIdsOf` names, as far as they are known. */
export const authContextOf = (
  { version }: RoomState,
  event: Event,
  known: ReadonlyMap<EventId, KnownEvent>
): AuthContext => {
  const create = version.createEventId(event.room_id)
  return {
    create: create === undefined ? undefined : known.get(create)?.event,
    isRejected: (id) => known.get(id)?.status === EventStatus.rejected
  }
}
