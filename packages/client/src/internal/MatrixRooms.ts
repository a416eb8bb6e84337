/**
 * Rooms by today's client API: creation, membership, sending, reading.
 *
 * Requests with a transaction ID take effect at most once, however often they are repeated; the client chooses one where the
 * caller gives none. Setting state has none: a repeat sets the same state again.
 *
 * Source: "Rooms" and "Events" of the client-server specification.
 */
import type { CreateRoom } from "@greenroom/protocol/client-server/CreateRoomApi"
import type { EventId, RoomAlias, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Duration } from "effect"
import type { MatrixTransport } from "./MatrixTransport.ts"
import type { Once } from "./RoomRequests.ts"

/** A page of the timeline: backwards from now if nothing is said. `from` and `to` are tokens. */
export interface MatrixMessagesOptions {
  readonly from?: string
  readonly to?: string
  readonly limit?: number
  readonly dir?: "f" | "b"
}

/** The reason of a membership or a redaction, which the people in the room see. */
export interface MatrixReason {
  readonly reason?: string
}

const reasonOf = ({ reason }: MatrixReason) => (reason === undefined ? {} : { reason })

const makeSending = ({ api, newTransactionId, once, repeatable }: MatrixTransport) => {
  const rooms = api["clientServer.rooms"]
  const send = (roomId: RoomId, eventType: string, content: JsonObject, { txnId = newTransactionId() }: Once = {}) =>
    repeatable(rooms.send({ params: { roomId, eventType, txnId }, query: {}, payload: content }))
  return {
    /** It has no transaction ID, so that a request whose answer was lost is not repeated. Errors: M_ROOM_IN_USE, M_UNSUPPORTED_ROOM_VERSION. */
    createRoom: (options: CreateRoom = {}) => once(api["clientServer.createRoom"].createRoom({ payload: options })),
    /** Sends an event: `send(roomId, "m.room.message", { msgtype: "m.text", body: "Hello" })`. Errors: M_FORBIDDEN. */
    send,
    /** Sends a message of text. */
    sendText: (roomId: RoomId, body: string, options?: Once) =>
      send(roomId, "m.room.message", { msgtype: "m.text", body }, options),
    /** Strips an event to what the protocol needs. Errors: M_FORBIDDEN. */
    redact: (roomId: RoomId, eventId: EventId, { reason, txnId = newTransactionId() }: Once & MatrixReason = {}) =>
      repeatable(rooms.redact({ params: { roomId, eventId, txnId }, payload: reason === undefined ? {} : { reason } })),
    /** Errors: M_FORBIDDEN. */
    setState: (roomId: RoomId, eventType: string, content: JsonObject, stateKey = "") =>
      repeatable(
        stateKey === ""
          ? rooms.setState({ params: { roomId, eventType }, query: {}, payload: content })
          : rooms.setStateWithKey({ params: { roomId, eventType, stateKey }, query: {}, payload: content })
      ),
    /** The user started or stopped typing. It ends after `timeout`. */
    setTyping: (roomId: RoomId, userId: UserId, typing: boolean, timeout?: Duration.Input) =>
      repeatable(
        rooms.typing({
          params: { roomId, userId },
          payload: timeout === undefined ? { typing } : { typing, timeout: Math.round(Duration.toMillis(timeout)) }
        })
      )
  }
}

/** A repeat of these changes nothing more, so the client repeats a request whose answer was lost. */
const makeMembership = ({ api, repeatable }: MatrixTransport) => {
  const rooms = api["clientServer.rooms"]
  const about = (user_id: UserId, options: MatrixReason = {}) => ({ user_id, ...reasonOf(options) })
  return {
    /** Joins a room by its ID or alias. Errors: M_FORBIDDEN, M_NOT_FOUND. */
    join: (roomIdOrAlias: RoomId | RoomAlias) =>
      repeatable(rooms.joinByIdOrAlias({ params: { roomIdOrAlias }, payload: {} })),
    /** Leaves a room, or rejects an invitation. */
    leave: (roomId: RoomId, options: MatrixReason = {}) =>
      repeatable(rooms.leave({ params: { roomId }, payload: reasonOf(options) })),
    /** Errors: M_FORBIDDEN. */
    invite: (roomId: RoomId, userId: UserId, options?: MatrixReason) =>
      repeatable(rooms.invite({ params: { roomId }, payload: about(userId, options) })),
    /** Errors: M_FORBIDDEN. */
    kick: (roomId: RoomId, userId: UserId, options?: MatrixReason) =>
      repeatable(rooms.kick({ params: { roomId }, payload: about(userId, options) })),
    /** Errors: M_FORBIDDEN. */
    ban: (roomId: RoomId, userId: UserId, options?: MatrixReason) =>
      repeatable(rooms.ban({ params: { roomId }, payload: about(userId, options) })),
    /** Errors: M_FORBIDDEN. */
    unban: (roomId: RoomId, userId: UserId, options?: MatrixReason) =>
      repeatable(rooms.unban({ params: { roomId }, payload: about(userId, options) })),
    /** The rooms that the user is in. */
    joinedRooms: repeatable(rooms.joinedRooms({}))
  }
}

const makeReading = ({ api, repeatable }: MatrixTransport) => {
  const rooms = api["clientServer.rooms"]
  return {
    /** The content of a state event. Errors: M_NOT_FOUND. */
    getState: (roomId: RoomId, eventType: string, stateKey = "") =>
      repeatable(
        stateKey === ""
          ? rooms.stateEvent({ params: { roomId, eventType }, query: {} })
          : rooms.stateEventWithKey({ params: { roomId, eventType, stateKey }, query: {} })
      ),
    /** All current state events. */
    getFullState: (roomId: RoomId) => repeatable(rooms.state({ params: { roomId } })),
    /** m.room.member events. */
    members: (roomId: RoomId) => repeatable(rooms.members({ params: { roomId }, query: {} })),
    /** Errors: M_NOT_FOUND. */
    getEvent: (roomId: RoomId, eventId: EventId) => repeatable(rooms.event({ params: { roomId, eventId } })),
    /** Errors: M_FORBIDDEN, M_INVALID_PARAM. */
    messages: (roomId: RoomId, { dir = "b", ...options }: MatrixMessagesOptions = {}) =>
      repeatable(rooms.messages({ params: { roomId }, query: { dir, ...options } }))
  }
}

export const makeMatrixRooms = (transport: MatrixTransport) => ({
  ...makeSending(transport),
  ...makeMembership(transport),
  ...makeReading(transport)
})
