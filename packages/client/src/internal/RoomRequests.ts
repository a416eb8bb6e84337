/**
 * Rooms: creation, membership, sending, reading, the directory.
 *
 * Requests with a transaction ID take effect at most once, however often they are repeated; the client chooses one where the
 * caller gives none. Setting state has none: a repeat sets the same state again.
 *
 * Source: "Rooms" and "Messages" of the draft.
 */
import type { CreateRoom } from "@greenroom/protocol/api/RoomsApi"
import type { ContentOf } from "@greenroom/protocol/EventContent"
import type { EventId, RoomAlias, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Duration } from "effect"
import type { Transport } from "./Transport.ts"

/** The transaction ID, for callers who repeat requests themselves, say after a restart. */
export interface Once {
  readonly txnId?: string
}

/** A page of messages. `from` and `to` are tokens, `START` or `END`; backwards from now if nothing is said. */
export interface MessagesOptions {
  readonly from?: string
  readonly to?: string
  readonly limit?: number
  readonly dir?: "f" | "b"
  /** Bundles feedback with the message that it is about. */
  readonly feedback?: boolean
}

const asText = (value: number | boolean | undefined) => (value === undefined ? undefined : String(value))

const makeSending = ({ api, newTransactionId, repeatable }: Transport) => ({
  /** Errors: M_ROOM_IN_USE for an alias that is taken. */
  createRoom: (options: CreateRoom = {}, { txnId = newTransactionId() }: Once = {}) =>
    repeatable(api.rooms.createRoomWithTransaction({ params: { txnId }, payload: options })),
  /** Sends an event: `send(roomId, "m.room.message", { msgtype: "m.text", body: "Hello" })`. Errors: M_FORBIDDEN. */
  send: <const Type extends string>(
    roomId: RoomId,
    type: Type,
    content: ContentOf<Type>,
    { txnId = newTransactionId() }: Once = {}
  ) => repeatable(api.rooms.sendWithTransaction({ params: { roomId, type, txnId }, payload: content as JsonObject })),
  /** Sends a message of text. */
  sendText: (roomId: RoomId, body: string, { txnId = newTransactionId() }: Once = {}) =>
    repeatable(
      api.rooms.sendWithTransaction({
        params: { roomId, type: "m.room.message", txnId },
        payload: { msgtype: "m.text", body }
      })
    ),
  /** Strips an event to what the protocol needs. Errors: M_FORBIDDEN. */
  redact: (
    roomId: RoomId,
    eventId: EventId,
    { reason, txnId = newTransactionId() }: Once & { readonly reason?: string } = {}
  ) =>
    repeatable(
      api.rooms.redactWithTransaction({
        params: { roomId, eventId, txnId },
        payload: reason === undefined ? {} : { reason }
      })
    ),
  /** The user started or stopped typing. It ends after `timeout`. */
  setTyping: (roomId: RoomId, userId: UserId, typing: boolean, timeout?: Duration.Input) =>
    repeatable(
      api.rooms.typing({
        params: { roomId, userId },
        payload: timeout === undefined ? { typing } : { typing, timeout: Math.round(Duration.toMillis(timeout)) }
      })
    ),
  setState: <const Type extends string>(roomId: RoomId, type: Type, content: ContentOf<Type>, stateKey = "") =>
    repeatable(
      stateKey === ""
        ? api.state.set({ params: { roomId, type }, payload: content as JsonObject })
        : api.state.setByKey({ params: { roomId, type, stateKey }, payload: content as JsonObject })
    )
})

const makeMembership = ({ api, newTransactionId, repeatable }: Transport) => {
  const about = (userId: UserId, reason: string | undefined) =>
    reason === undefined ? { user_id: userId } : { user_id: userId, reason }
  return {
    /** Joins a room by its ID or alias. Errors: M_FORBIDDEN, M_NOT_FOUND. */
    join: (roomIdOrAlias: RoomId | RoomAlias, { txnId = newTransactionId() }: Once = {}) =>
      repeatable(api.membership.joinWithTransaction({ params: { roomIdOrAlias, txnId }, payload: {} })),
    /** Leaves a room, or rejects an invitation. */
    leave: (roomId: RoomId, { txnId = newTransactionId() }: Once = {}) =>
      repeatable(api.membership.leaveWithTransaction({ params: { roomId, txnId }, payload: {} })),
    invite: (roomId: RoomId, userId: UserId, { txnId = newTransactionId() }: Once = {}) =>
      repeatable(
        api.membership.inviteWithTransaction({ params: { roomId, txnId }, payload: about(userId, undefined) })
      ),
    kick: (
      roomId: RoomId,
      userId: UserId,
      { reason, txnId = newTransactionId() }: Once & { readonly reason?: string } = {}
    ) => repeatable(api.membership.kickWithTransaction({ params: { roomId, txnId }, payload: about(userId, reason) })),
    ban: (
      roomId: RoomId,
      userId: UserId,
      { reason, txnId = newTransactionId() }: Once & { readonly reason?: string } = {}
    ) => repeatable(api.membership.banWithTransaction({ params: { roomId, txnId }, payload: about(userId, reason) })),
    /** Errors: M_FORBIDDEN, M_BAD_STATE if the user is not banned. */
    unban: (
      roomId: RoomId,
      userId: UserId,
      { reason, txnId = newTransactionId() }: Once & { readonly reason?: string } = {}
    ) => repeatable(api.membership.unbanWithTransaction({ params: { roomId, txnId }, payload: about(userId, reason) })),
    /** m.room.member events, with the presence of each user in the content. */
    members: (roomId: RoomId) => repeatable(api.membership.members({ params: { roomId } }))
  }
}

const makeReading = ({ api, repeatable }: Transport) => ({
  /** The content of a state event. Errors: M_NOT_FOUND. */
  getState: (roomId: RoomId, type: string, stateKey = "") =>
    repeatable(
      stateKey === ""
        ? api.state.get({ params: { roomId, type } })
        : api.state.getByKey({ params: { roomId, type, stateKey } })
    ),
  /** All current state events. */
  getFullState: (roomId: RoomId) => repeatable(api.state.getAll({ params: { roomId } })),
  /** Errors: M_BAD_PAGINATION, M_FORBIDDEN. */
  messages: (roomId: RoomId, { dir, feedback, from, limit, to }: MessagesOptions = {}) =>
    repeatable(
      api.rooms.messages({
        params: { roomId },
        query: { from, to, dir, limit: asText(limit), feedback: asText(feedback) }
      })
    ),
  /** A snapshot of one room: its state, `limit` messages, the presence of its members. */
  roomInitialSync: (roomId: RoomId, limit?: number) =>
    repeatable(api.events.roomInitialSync({ params: { roomId }, query: { limit: asText(limit) } })),
  /** Errors: M_NOT_FOUND, also for an event that the caller may not see. */
  getEvent: (eventId: EventId) => repeatable(api.events.event({ params: { eventId } }))
})

const makeDirectory = ({ api, repeatable }: Transport) => ({
  /** A page of the public rooms of the server, the largest first. `end` of a page is the next `from`. */
  publicRooms: ({ from, limit }: { readonly from?: string; readonly limit?: number } = {}) =>
    repeatable(api.directory.publicRooms({ query: { from, limit: asText(limit) } })),
  /** Errors: M_NOT_FOUND. */
  resolveAlias: (alias: RoomAlias) => repeatable(api.directory.resolveAlias({ params: { alias } })),
  /** Errors: M_ROOM_IN_USE, M_FORBIDDEN. */
  setAlias: (alias: RoomAlias, roomId: RoomId) =>
    repeatable(api.directory.setAlias({ params: { alias }, payload: { room_id: roomId } })),
  /** Errors: M_NOT_FOUND, M_FORBIDDEN. */
  removeAlias: (alias: RoomAlias) => repeatable(api.directory.removeAlias({ params: { alias } }))
})

export const makeRoomRequests = (transport: Transport) => ({
  ...makeSending(transport),
  ...makeMembership(transport),
  ...makeReading(transport),
  ...makeDirectory(transport)
})
