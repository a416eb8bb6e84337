/**
 * What is read of rooms, in the form that clients get it.
 */
import { toClientEvent } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { RoomStore } from "@greenroom/store/RoomStore"
import { formatPosition } from "@greenroom/store/StreamToken"
import { Clock, Effect } from "effect"
import { Presences } from "../Presences.ts"
import type { MessagesQuery, PresenceContent, PublicRoom } from "../Rooms.ts"
import type { Session } from "../Session.ts"
import { clampLimit, makeRoomViews, withPresence } from "./RoomViews.ts"

export const makeRoomReads = Effect.gen(function* () {
  const views = yield* makeRoomViews
  const log = yield* EventLog
  const rooms = yield* RoomStore
  const presences = yield* Presences

  const presenceOf = (userIds: ReadonlyArray<UserId>) =>
    Effect.map(
      presences.many(userIds),
      (found) => new Map<string, PresenceContent>(found.map((presence) => [presence.user_id, presence]))
    )

  const getState = (session: Session, roomId: RoomId, type: string, stateKey: string) =>
    Effect.map(views.stateEvent(session.userId, roomId, type, stateKey), (event) => event.content)

  const getFullState = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
    const now = yield* Clock.currentTimeMillis
    return (yield* views.state(session.userId, roomId)).map((event) => toClientEvent(event, now))
  })

  const members = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
    const now = yield* Clock.currentTimeMillis
    const memberships = yield* views.state(session.userId, roomId, ["m.room.member"])
    const joined = memberships.filter((event) => event.content.membership === "join")
    const presence = yield* presenceOf(joined.map((event) => event.state_key as UserId))
    return {
      chunk: memberships.map((event) =>
        withPresence(
          toClientEvent(event, now),
          event.content.membership === "join" ? presence.get(event.state_key!) : undefined
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
    const { membership, upTo } = yield* views.view(session.userId, roomId)
    const at = yield* log.currentPosition
    const [snapshot] = yield* views.snapshots([membership], clampLimit(limit), upTo)
    const joined = (snapshot!.state ?? []).filter(
      (event) => event.type === "m.room.member" && event.content.membership === "join"
    )
    const presence = yield* presences.many(joined.map((event) => event.state_key as UserId))
    const { messages, ...rest } = snapshot!
    return {
      ...rest,
      ...(messages === undefined ? {} : { messages: { ...messages, end: formatPosition(at) } }),
      presence: presence.map((content) => ({ type: "m.presence" as const, content }))
    }
  })

  const publicRooms = Effect.map(rooms.publicRooms, (found) => ({
    chunk: found.map(
      (room): PublicRoom => ({
        room_id: room.roomId,
        aliases: room.aliases,
        num_joined_members: room.joinedMembers,
        ...(room.name === undefined ? {} : { name: room.name }),
        ...(room.topic === undefined ? {} : { topic: room.topic })
      })
    ),
    start: "START",
    end: "END"
  }))

  const messages = (session: Session, roomId: RoomId, query: MessagesQuery) =>
    views.messages(session.userId, roomId, query)

  return { getState, getFullState, members, getEvent, initialSync, publicRooms, messages }
})
