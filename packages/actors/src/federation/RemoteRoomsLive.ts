/**
 * `RemoteRooms` over the federation API.
 *
 * Source: "Backfilling" and "PDUs and EDUs" of the specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { Effect, Layer, Result } from "effect"
import { RemoteFailure, RemoteRooms } from "../room/RemoteRooms.ts"
import { FederationClient } from "./FederationClient.ts"
import { PduVerification, problemText } from "./PduVerification.ts"
import type { RemoteError } from "./RemoteError.ts"

const failureOf = (error: RemoteError): RemoteFailure =>
  error._tag === "RemoteRefused"
    ? new RemoteFailure({ destination: error.destination, reason: error.error, errcode: error.errcode })
    : new RemoteFailure({ destination: error.destination, reason: error.reason })

const make = Effect.gen(function* () {
  const client = yield* FederationClient
  const verification = yield* PduVerification

  const verify = Effect.fnUntraced(function* (
    version: RoomVersion,
    pdus: ReadonlyArray<unknown>,
    voucher?: ServerName
  ) {
    const results = yield* verification.verifyPdus(version, pdus, voucher)
    return results.map(Result.mapError(problemText))
  })

  /** Those of the PDUs that are good and belong to the room. What is not is logged. */
  const good = Effect.fnUntraced(function* (
    destination: ServerName,
    version: RoomVersion,
    roomId: RoomId,
    pdus: ReadonlyArray<unknown>,
    voucher?: ServerName
  ) {
    const events: Array<Event> = []
    let refused = 0
    for (const each of yield* verify(version, pdus, voucher)) {
      if (Result.isSuccess(each) && each.success.room_id === roomId) events.push(each.success)
      else refused++
    }
    if (refused > 0) yield* Effect.logWarning(`${refused} bad PDUs of ${roomId} from ${destination} are ignored`)
    return events
  })

  const verifyOne = Effect.fnUntraced(function* (destination: ServerName, version: RoomVersion, pdu: unknown) {
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
      const event = yield* verifyOne(destination, version, pdu)
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
        state: yield* good(destination, version, event.room_id, state, destination),
        authChain: yield* good(destination, version, event.room_id, auth_chain, destination)
      }
    }),
    joinedThrough: (destination, roomId) => verification.joinedThrough(roomId, destination),
    sendMembership: (destination, version, handshake, event) =>
      Effect.mapError(send[handshake](destination, event.room_id, event.event_id, version.toPdu(event)), failureOf),
    invite: Effect.fnUntraced(function* (destination, version, event) {
      const answer = yield* Effect.mapError(
        client.invite(destination, event.room_id, event.event_id, version.toPdu(event)),
        failureOf
      )
      const signed = yield* verifyOne(destination, version, answer.event)
      if (signed.event_id !== event.event_id || signed.hashes?.sha256 !== event.hashes?.sha256) {
        return yield* new RemoteFailure({ destination, reason: "another event came back than the invite" })
      }
      return { ...event, signatures: { ...signed.signatures, ...event.signatures } }
    })
  })
})

/** Provides `RemoteRooms` to the Room actors. */
export const layer = Layer.effect(RemoteRooms, make)
