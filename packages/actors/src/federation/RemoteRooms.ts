/**
 * Rooms on other servers, as a Room actor asks for them: every event that comes back has passed its form, signature and
 * hash, and belongs to the room.
 *
 * Source: "Backfilling" and "PDUs and EDUs" of the specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { Context, Effect, Layer, Result, Schema } from "effect"
import { FederationClient } from "./FederationClient.ts"
import { PduVerification, type VerificationProblem } from "./PduVerification.ts"
import type { RemoteError } from "./RemoteError.ts"

/** The other server could not be reached, refused, or answered with what cannot be used. */
export class RemoteFailure extends Schema.TaggedError<RemoteFailure>()("RemoteFailure", {
  destination: Schema.String,
  reason: Schema.String,
  /** The errcode that the other server gave. */
  errcode: Schema.optionalKey(Schema.String)
}) {}

/** A room's state with the events that authorise it. */
export interface RemoteState {
  readonly state: ReadonlyArray<Event>
  readonly authChain: ReadonlyArray<Event>
}

export type MembershipHandshake = "join" | "leave" | "knock"

export class RemoteRooms extends Context.Service<
  RemoteRooms,
  {
    /** Checks PDUs of any origin. Of bad ones the reason. */
    readonly verify: (
      version: RoomVersion,
      pdus: ReadonlyArray<unknown>
    ) => Effect.Effect<ReadonlyArray<Result.Result<Event, string>>>
    /** What precedes the events, newest first, at most `limit`. */
    readonly backfill: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Event>, RemoteFailure>
    /** The state before an event. */
    readonly stateAt: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      at: EventId
    ) => Effect.Effect<RemoteState, RemoteFailure>
    readonly event: (
      destination: ServerName,
      version: RoomVersion,
      roomId: RoomId,
      eventId: EventId
    ) => Effect.Effect<Event, RemoteFailure>
    /** The template of a membership of our user. */
    readonly makeMembership: (
      destination: ServerName,
      handshake: MembershipHandshake,
      roomId: RoomId,
      userId: UserId
    ) => Effect.Effect<{ readonly room_version: string; readonly event: JsonObject }, RemoteFailure>
    readonly sendJoin: (
      destination: ServerName,
      version: RoomVersion,
      event: Event
    ) => Effect.Effect<RemoteState, RemoteFailure>
    readonly sendMembership: (
      destination: ServerName,
      version: RoomVersion,
      handshake: "leave" | "knock",
      event: Event
    ) => Effect.Effect<void, RemoteFailure>
    /** Hands an invite to the server of the invited user, and gives it back countersigned. */
    readonly invite: (
      destination: ServerName,
      version: RoomVersion,
      event: Event
    ) => Effect.Effect<Event, RemoteFailure>
  }
>()("greenroom/actors/federation/RemoteRooms") {
  static readonly layer = Layer.effect(
    RemoteRooms,
    Effect.suspend(() => make)
  )
}

const failureOf = (error: RemoteError): RemoteFailure =>
  error._tag === "RemoteRefused"
    ? new RemoteFailure({ destination: error.destination, reason: error.error, errcode: error.errcode })
    : new RemoteFailure({ destination: error.destination, reason: error.reason })

const problemOf = (problem: VerificationProblem): string => {
  switch (problem._tag) {
    case "TooLarge":
      return `the PDU has ${problem.bytes} bytes`
    default:
      return problem.reason
  }
}

const make = Effect.gen(function* () {
  const client = yield* FederationClient
  const verification = yield* PduVerification

  const verify = Effect.fnUntraced(function* (version: RoomVersion, pdus: ReadonlyArray<unknown>) {
    const results = yield* verification.verifyPdus(version, pdus)
    return results.map(Result.mapError(problemOf))
  })

  /** Those of the PDUs that are good and belong to the room. What is not is logged. */
  const good = Effect.fnUntraced(function* (
    destination: ServerName,
    version: RoomVersion,
    roomId: RoomId,
    pdus: ReadonlyArray<unknown>
  ) {
    const events: Array<Event> = []
    let refused = 0
    for (const each of yield* verify(version, pdus)) {
      if (Result.isSuccess(each) && each.success.room_id === roomId) events.push(each.success)
      else refused++
    }
    if (refused > 0) yield* Effect.logWarning(`${refused} bad PDUs of ${roomId} from ${destination} are ignored`)
    return events
  })

  const one = Effect.fnUntraced(function* (destination: ServerName, version: RoomVersion, pdu: unknown) {
    const [verified] = yield* verify(version, [pdu])
    if (Result.isSuccess(verified!)) return verified.success
    return yield* new RemoteFailure({ destination, reason: `bad PDU: ${verified!.failure}` })
  })

  const send = { leave: client.sendLeave, knock: client.sendKnock }
  const propose = { join: client.makeJoin, leave: client.makeLeave, knock: client.makeKnock }

  return RemoteRooms.of({
    verify,
    backfill: (destination, version, roomId, from, limit) =>
      Effect.flatMap(Effect.mapError(client.backfill(destination, roomId, from, limit), failureOf), (pdus) =>
        good(destination, version, roomId, pdus)
      ),
    stateAt: Effect.fnUntraced(function* (destination, version, roomId, at) {
      const { auth_chain, pdus } = yield* Effect.mapError(client.getState(destination, roomId, at), failureOf)
      return {
        state: yield* good(destination, version, roomId, pdus),
        authChain: yield* good(destination, version, roomId, auth_chain)
      }
    }),
    event: Effect.fnUntraced(function* (destination, version, roomId, eventId) {
      const pdu = yield* Effect.mapError(client.getPdu(destination, eventId), failureOf)
      const event = yield* one(destination, version, pdu)
      if (event.event_id === eventId && event.room_id === roomId) return event
      return yield* new RemoteFailure({ destination, reason: `another event came back than ${eventId}` })
    }),
    makeMembership: (destination, handshake, roomId, userId) =>
      Effect.mapError(propose[handshake](destination, roomId, userId), failureOf),
    sendJoin: Effect.fnUntraced(function* (destination, version, event) {
      const { auth_chain, state } = yield* Effect.mapError(
        client.sendJoin(destination, event.room_id, event.event_id, version.toPdu(event)),
        failureOf
      )
      return {
        state: yield* good(destination, version, event.room_id, state),
        authChain: yield* good(destination, version, event.room_id, auth_chain)
      }
    }),
    sendMembership: (destination, version, handshake, event) =>
      Effect.mapError(send[handshake](destination, event.room_id, event.event_id, version.toPdu(event)), failureOf),
    invite: Effect.fnUntraced(function* (destination, version, event) {
      const answer = yield* Effect.mapError(
        client.invite(destination, event.room_id, event.event_id, version.toPdu(event)),
        failureOf
      )
      const signed = yield* one(destination, version, answer.event)
      if (signed.event_id !== event.event_id || signed.hashes?.sha256 !== event.hashes?.sha256) {
        return yield* new RemoteFailure({ destination, reason: "another event came back than the invite" })
      }
      return { ...event, signatures: { ...signed.signatures, ...event.signatures } }
    })
  })
})
