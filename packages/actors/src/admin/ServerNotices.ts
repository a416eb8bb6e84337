/**
 * Messages of administrators to users, in a room of each user in which only the server writes. The user cannot reject the
 * invitation; a user who left the room is invited again by the next notice.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 *
 * Source: "Server Notices" of the client-server specification; `send_server_notice` of Synapse.
 */
import { type EventId, formatUserId, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadRequest, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { NoticeStore, type WaitingNotice } from "@greenroom/store/NoticeStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Context, Effect, Layer, Option, Result } from "effect"
import { PresetRooms } from "../room/PresetRooms.ts"
import { Rooms } from "../room/Rooms.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { handleEach, outcomeOf, type TryAgain } from "../runtime/ItemFailure.ts"
import type { Session } from "../runtime/Session.ts"
import { AccountData } from "../user/AccountData.ts"
import { Users } from "../user/Users.ts"

/** A notice to one user. */
export interface Notice {
  readonly userId: UserId
  /** `m.room.message` if absent. */
  readonly type?: string | undefined
  readonly stateKey?: string | undefined
  readonly content: JsonObject
  /** A repeat with the same ID sends nothing more. */
  readonly txnId?: string | undefined
}

const tag = "m.server_notice"

/** In place of a login, for the transaction IDs of notices. */
const noticeTokenId = -1

/** How many waiting notices are read at once. */
const batch = 100

const off = new BadRequest({ error: "Server notices are off: set server_notices.localpart" })

const make = Effect.gen(function* () {
  const { serverName, serverNotices } = yield* HomeServerConfig
  const accounts = yield* AccountStore
  const store = yield* NoticeStore
  const memberships = yield* RoomStore
  const rooms = yield* Rooms
  const presets = yield* PresetRooms
  const users = yield* Users
  const accountData = yield* AccountData

  const sessionOf = (userId: UserId): Session => ({ userId, tokenId: noticeTokenId, deviceId: "" })

  /** The user that sends notices: an account without a password. */
  const sender = Effect.gen(function* () {
    if (serverNotices === undefined) return yield* off
    const session = sessionOf(formatUserId(serverNotices.localpart, serverName))
    if (Option.isNone(yield* accounts.find(session.userId))) {
      yield* Effect.catchTag(accounts.create(session.userId), "M_USER_IN_USE", () => Effect.void)
      yield* users.setProfileField(session, session.userId, "displayname", serverNotices.name)
    }
    return { session, name: serverNotices.name }
  })

  const membershipOf = (userId: UserId, roomId: RoomId) =>
    Effect.map(memberships.membership(userId, roomId), (found) =>
      Option.isSome(found) ? found.value.membership : undefined
    )

  const createRoom = Effect.fnUntraced(function* (
    { name, session }: Effect.Success<typeof sender>,
    userId: UserId,
    before: Option.Option<RoomId>
  ) {
    // Until the room is recorded, a repeat is given the same one.
    const txnId = `notices of ${userId} after ${Option.getOrElse(before, () => "none")}`
    const { room_id } = yield* presets.create(
      session,
      { preset: "private_chat", name, powerLevels: { users_default: -10 } },
      txnId
    )
    return yield* store.setRoom(userId, before, room_id)
  })

  /** The room of a user, to which they are invited. */
  const openRoom = Effect.fnUntraced(function* (from: Effect.Success<typeof sender>, userId: UserId) {
    const known = yield* store.roomOf(userId)
    const isThere = Option.isSome(known) && (yield* membershipOf(from.session.userId, known.value)) === "join"
    const roomId = isThere ? known.value : yield* createRoom(from, userId, known)
    const membership = yield* membershipOf(userId, roomId)
    if (membership === "join" || membership === "invite") return roomId
    yield* accountData.setTag(sessionOf(userId), userId, roomId, tag, {})
    yield* rooms.setMembership(from.session, roomId, "invite", userId)
    return roomId
  })

  const send = Effect.fn("ServerNotices.send")(function* ({
    content,
    stateKey,
    txnId,
    type = "m.room.message",
    userId
  }: Notice): Effect.fn.Return<{ readonly event_id: EventId }, MatrixError> {
    if (Option.isSome(yield* accounts.findAbsent([userId]))) {
      return yield* new NotFound({ error: `There is no user ${userId} on this server` })
    }
    const from = yield* sender
    const roomId = yield* openRoom(from, userId)
    return stateKey === undefined
      ? yield* rooms.send(from.session, roomId, type, content, txnId)
      : yield* rooms.setState(from.session, roomId, type, stateKey, content, txnId)
  })

  /** A notice that cannot be sent now stays for the next attempt. */
  const sendOne = Effect.fnUntraced(function* ({ content, noticeId, userId }: WaitingNotice) {
    const sent = yield* outcomeOf(`A notice to ${userId}`, send({ userId, content, txnId: `waiting ${noticeId}` }))
    if (Result.isFailure(sent)) {
      yield* Effect.logWarning(`A notice to ${userId} could not be sent: ${sent.failure.error}`)
    }
    yield* store.remove(noticeId, Result.isFailure(sent) ? sent.failure.error : undefined)
  })

  const sendWaiting: Effect.Effect<void, TryAgain> = Effect.gen(function* () {
    const waiting = yield* store.waiting(batch)
    yield* handleEach(waiting, sendOne)
    if (waiting.length === batch) yield* sendWaiting
  })

  return ServerNotices.of({ send, sendWaiting })
})

/** Sends notices of administrators to users. */
export class ServerNotices extends Context.Service<
  ServerNotices,
  {
    /** Errors: M_UNKNOWN if notices are off, M_NOT_FOUND for a user that is none of this server. */
    readonly send: (notice: Notice) => Effect.Effect<{ readonly event_id: EventId }, MatrixError>
    /** Sends what waits: notices of the command line, and those about new accounts. Must be repeated after `TryAgain`. */
    readonly sendWaiting: Effect.Effect<void, TryAgain>
  }
>()("greenroom/actors/ServerNotices") {
  static readonly layer = Layer.effect(ServerNotices, make)
}
