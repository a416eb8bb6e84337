/**
 * Joins, leaves and knocks of users of other servers: the template of a membership, and the membership that their server has
 * completed.
 *
 * Source: "Joining Rooms", "Leaving Rooms" and "Knocking upon a room" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, Forbidden } from "@greenroom/protocol/MatrixError"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect, Result } from "effect"
import type { MembershipHandshake } from "../../room/RemoteRooms.ts"
import { Room } from "../../room/RoomProtocol.ts"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { MakeMembership } from "../Federation.ts"
import { PduVerification, problemText, type VerificationProblem } from "../PduVerification.ts"
import { essentialState } from "./essentialState.ts"
import { type KnownVersions, noSuchRoom } from "./KnownVersions.ts"

/** The faults of a PDU that may be another server's invention. */
const unproven: ReadonlySet<VerificationProblem["_tag"]> = new Set(["BadSignature", "NoKeys"])

/** The servers with joined members in a state. */
const serversIn = (state: ReadonlyArray<Event>): ReadonlyArray<ServerName> => [
  ...new Set(
    state
      .filter(({ content, type }) => type === "m.room.member" && content.membership === "join")
      .map(({ state_key }) => serverNameOf(state_key as UserId))
  )
]

export const makeIncomingHandshakes = Effect.fnUntraced(function* ({ findVersion }: KnownVersions) {
  const { serverName } = yield* HomeServerConfig
  const verification = yield* PduVerification
  const room = yield* Room.client
  const signingKeys = yield* SigningKeys

  /** The event of a handshake, checked against the path that it came by. */
  const readHandshake = Effect.fnUntraced(function* (
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject,
    version: RoomVersion
  ) {
    // The signature covers the hash, and the hash the content.
    if (!isJsonObject(pdu.hashes)) return yield* new Forbidden({ error: "the PDU is not signed: it has no hash" })
    const [verified] = yield* verification.verifyPdus(version, [pdu])
    const event = yield* Effect.fromResult(
      Result.mapError(verified!, (problem) => {
        const error = problemText(problem)
        return unproven.has(problem._tag) ? new Forbidden({ error }) : new BadJson({ error })
      })
    )
    if (event.event_id !== eventId || event.room_id !== roomId) {
      return yield* new BadJson({ error: "the PDU is not the one that the path names" })
    }
    return event
  })

  /** Adds our signature to a join that a user of ours authorises. The room actor checks whether it may. */
  const withOurSignature = Effect.fnUntraced(function* (version: RoomVersion, pdu: JsonObject) {
    const read = version.fromPdu(pdu)
    if (Result.isFailure(read) || read.success.signatures[serverName] !== undefined) return pdu
    if (!version.signers(read.success).includes(serverName)) return pdu
    return version.toPdu(version.sign(read.success, yield* signingKeys.current))
  })

  const makeMembership =
    (handshake: MembershipHandshake): MakeMembership =>
    (origin, roomId, userId, versions) =>
      serverNameOf(userId) === origin
        ? ask(room(roomId).MakeMembership({ handshake, userId, ...(versions === undefined ? {} : { versions }) }))
        : Effect.fail(new Forbidden({ error: `${userId} is not a user of ${origin}` }))

  const sendMembership = Effect.fnUntraced(function* (
    handshake: MembershipHandshake,
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject
  ) {
    const version = yield* findVersion(roomId)
    if (version === undefined) return yield* noSuchRoom(roomId)
    const signed = handshake === "join" ? yield* withOurSignature(version, pdu) : pdu
    const event = yield* readHandshake(roomId, eventId, signed, version)
    const taken = yield* ask(room(roomId).SendMembership({ origin, handshake, event }))
    return { ...taken, version }
  })

  const sendJoin = Effect.fn("FederationRooms.sendJoin")(function* (
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject,
    omitMembers = false
  ) {
    const { event, version, ...whole } = yield* sendMembership("join", origin, roomId, eventId, pdu)
    const { authChain, state } = omitMembers ? essentialState(whole, event) : whole
    return {
      state,
      authChain,
      event: version.toPdu(event),
      ...(omitMembers ? { servers_in_room: serversIn(whole.state) } : {})
    }
  })

  return { makeMembership, readHandshake, sendJoin, sendMembership }
})

export type IncomingHandshakes = Effect.Success<ReturnType<typeof makeIncomingHandshakes>>
