/**
 * Reads of rooms, in the form of the client API.
 */
import { type ClientEvent, type Event, exactContent, toClientEvent } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { Clock, Effect } from "effect"
import type { PresenceContent } from "../../presence/PresenceContent.ts"
import { Presences } from "../../presence/Presences.ts"
import type { Session } from "../../runtime/Session.ts"
import type { MessagesQuery } from "../RoomModel.ts"
import { clampLimit, makeRoomViews, withPresence } from "../RoomViews.ts"
import { makePublicRoomList } from "./PublicRoomList.ts"

/** The users who are joined by these state events. */
const joinedIn = (state: ReadonlyArray<Event | ClientEvent>): ReadonlyArray<UserId> =>
  state.flatMap((event) =>
    event.type === "m.room.member" && event.content.membership === "join" ? [event.state_key as UserId] : []
  )

export const makeRoomReads = Effect.gen(function* () {
  const views = yield* makeRoomViews
  const log = yield* EventLog
  const presences = yield* Presences

  const presenceOf = (userIds: ReadonlyArray<UserId>) =>
    Effect.map(
      presences.many(userIds),
      (found) => new Map<string, PresenceContent>(found.map((presence) => [presence.user_id, presence]))
    )

  const getState = (session: Session, roomId: RoomId, type: string, stateKey: string) =>
    Effect.map(views.stateEvent(session.userId, roomId, type, stateKey), exactContent)

  const getFullState = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
    const now = yield* Clock.currentTimeMillis
    return (yield* views.state(session.userId, roomId)).map((event) => toClientEvent(event, now))
  })

  /** Users who left the room no longer see presence there. */
  const members = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
    const now = yield* Clock.currentTimeMillis
    const view = yield* views.view(session.userId, roomId)
    const memberships = yield* views.stateIn(view, ["m.room.member"])
    const presence = view.membership.membership === "join" ? yield* presenceOf(joinedIn(memberships)) : new Map()
    return {
      chunk: memberships.map((event) =>
        withPresence(
          toClientEvent(event, now),
          event.content.membership === "join" ? presence.get(event.state_key) : undefined
        )
      ),
      start: "START",
      end: "END"
    }
  })

  const getEvent = Effect.fnUntraced(function* (session: Session, eventId: EventId) {
    const now = yield* Clock.currentTimeMillis
    return toClientEvent(yield* views.event(session.userId, eventId), now)
  })

  const initialSync = Effect.fnUntraced(function* (session: Session, roomId: RoomId, limit?: number) {
    // The position is read first: the state may be newer, and the stream repeats it then, but never older.
    const at = yield* Effect.andThen(log.caughtUp, log.currentPosition)
    const { membership } = yield* views.view(session.userId, roomId)
    const [snapshot] = yield* views.snapshots(session.userId, [membership], clampLimit(limit), at)
    const presence = membership.membership === "join" ? yield* presenceOf(joinedIn(snapshot!.state ?? [])) : new Map()
    return {
      ...snapshot!,
      presence: [...presence.values()].map((content) => ({ type: "m.presence" as const, content }))
    }
  })

  const publicRooms = yield* makePublicRoomList

  const messages = (session: Session, roomId: RoomId, query: MessagesQuery) =>
    views.messages(session.userId, roomId, query)

  return { getState, getFullState, members, getEvent, initialSync, publicRooms, messages }
})
