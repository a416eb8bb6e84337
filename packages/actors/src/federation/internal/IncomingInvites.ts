/**
 * Invites of users of this server by users of other servers.
 *
 * Source: "Inviting to a room" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import {
  type EventId,
  isUserId,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  IncompatibleRoomVersion,
  InvalidParam,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion, roomVersion } from "@greenroom/room/RoomVersions"
import { AccountStore } from "@greenroom/store/AccountStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option, Result } from "effect"
import { AppServiceQueries } from "../../app-service/AppServiceQueries.ts"
import { makeMembershipLimits } from "../../room/MembershipLimits.ts"
import { Room } from "../../room/RoomProtocol.ts"
import { readStrippedState, requiresPdus } from "../../room/StrippedState.ts"
import { ask } from "../../runtime/Ask.ts"
import { Bans } from "../../runtime/Bans.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { PduVerification, problemText } from "../PduVerification.ts"
import type { IncomingHandshakes } from "./IncomingHandshakes.ts"
import type { KnownVersions } from "./KnownVersions.ts"

/** An invite of a local user, as another server sent it. */
export interface ReceivedInvite {
  readonly event: JsonObject
  /** Absent: version 1 or 2, whose events have one form. */
  readonly roomVersion: string | undefined
  /** The stripped state for the invited user. Absent in the draft's dialect, which has none. */
  readonly shown?: ReadonlyArray<Json>
}

/** Whether an event invites a user of the server. */
export const isInviteOf = (serverName: ServerName, event: Event): boolean =>
  event.type === "m.room.member" &&
  event.content.membership === "invite" &&
  isUserId(event.state_key) &&
  serverNameOf(event.state_key) === serverName

export const makeIncomingInvites = Effect.fnUntraced(function* (
  { findVersion }: KnownVersions,
  { readHandshake }: IncomingHandshakes
) {
  const { serverName } = yield* HomeServerConfig
  const room = yield* Room.client
  const rooms = yield* RoomStore
  const accounts = yield* AccountStore
  const appServices = yield* AppServiceQueries
  const limits = yield* makeMembershipLimits
  const bans = yield* Bans
  const verification = yield* PduVerification

  /** A user of ours. `isMade` makes one that has no account, if it can. */
  const mustBeUser = Effect.fnUntraced(function* (userId: UserId, isMade: Effect.Effect<boolean, MatrixError>) {
    let account = yield* accounts.find(userId)
    if (Option.isNone(account) && (yield* isMade)) account = yield* accounts.find(userId)
    if (Option.isNone(account) || account.value.deactivatedAt !== undefined) {
      return yield* new NotFound({ error: `There is no user ${userId}` })
    }
  })

  const takeInvite = Effect.fnUntraced(function* (
    origin: ServerName,
    event: Event,
    version: string = defaultRoomVersion.id,
    readState: Effect.Effect<ReadonlyArray<JsonObject>, InvalidParam> = Effect.succeed([]),
    isMade: Effect.Effect<boolean, MatrixError> = Effect.succeed(false)
  ) {
    if (!isInviteOf(serverName, event))
      return yield* new InvalidParam({ error: "the PDU is not an invite of a user of this server" })
    yield* bans.check("user", event.sender)
    yield* limits.mustBeOpen(event.room_id)
    yield* mustBeUser(event.state_key as UserId, isMade)
    yield* limits.mustTakeInvitation(event.state_key as UserId, event.sender)
    const shown = yield* readState
    return yield* ask(room(event.room_id).ReceiveInvite({ origin, event, version, shown }))
  })

  /** The room state for the invited user, stripped. The inviting server vouches for keys of servers that are away. */
  const readInviteState = Effect.fnUntraced(function* (
    origin: ServerName,
    version: RoomVersion,
    event: Event,
    shown: ReadonlyArray<Json>
  ) {
    const { events, fault } = yield* readStrippedState(version, event.room_id, shown, (pdus) =>
      Effect.map(verification.verifyPdus(version, pdus, { voucher: origin }), (results) =>
        results.map(Result.mapError(problemText))
      )
    )
    if (fault === undefined) return events
    if (requiresPdus(version, event.room_id)) return yield* new InvalidParam({ error: `invite_room_state: ${fault}` })
    yield* Effect.logWarning(`The invite ${event.event_id} from ${origin} has a faulty invite_room_state: ${fault}`)
    return events
  })

  const inviteTo = Effect.fn("FederationRooms.invite")(function* (
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    { event: pdu, roomVersion: named, shown }: ReceivedInvite
  ) {
    const isHere = yield* rooms.exists(roomId)
    const known = isHere ? yield* findVersion(roomId) : undefined
    const id = named ?? (known?.id === "2" ? known.id : "1")
    const version = roomVersion(id)
    if (version === undefined) {
      return yield* new IncompatibleRoomVersion({
        error: `This server does not know the room version ${id.slice(0, 64)}`,
        room_version: id.slice(0, 64)
      })
    }
    // A server without users in the room may invite to it, unless its m.room.server_acl excludes that server.
    if (isHere) yield* Effect.catchTag(ask(room(roomId).RequireServer({ origin })), "M_NOT_FOUND", () => Effect.void)
    if (known !== undefined && known !== version) {
      return yield* new BadJson({ error: `room_version: ${roomId} has version ${known.id}` })
    }
    const event = yield* readHandshake(roomId, eventId, pdu, version)
    const readState = shown === undefined ? undefined : readInviteState(origin, version, event, shown)
    // A user in the namespace of an application service may exist only once somebody invites them.
    const isMade = Effect.suspend(() => appServices.forServer(origin).makesUser(event.state_key as UserId))
    return { event: version.toPdu(yield* takeInvite(origin, event, id, readState, isMade)) }
  })

  const invite = (origin: ServerName, roomId: RoomId, eventId: EventId, event: JsonObject) =>
    inviteTo(origin, roomId, eventId, { event, roomVersion: defaultRoomVersion.id })

  return { invite, inviteTo, takeInvite }
})

export type IncomingInvites = Effect.Success<ReturnType<typeof makeIncomingInvites>>
