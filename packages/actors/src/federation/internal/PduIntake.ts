/**
 * The PDUs of transactions: each is read and verified by the version of its room, and handed to the actor of the room. PDUs
 * that cannot be verified yet are kept (`UnverifiedPdus`).
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import {
  type EventId,
  formatEventId,
  isRoomId,
  isUserId,
  type RoomId,
  type ServerName,
  serverNameOf
} from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion } from "@greenroom/room/RoomVersions"
import type { KeptPduAnswer } from "@greenroom/store/ReceivedTransactionStore"
import { type UnverifiedPdu, UnverifiedPduStore } from "@greenroom/store/UnverifiedPduStore"
import { Effect, Result } from "effect"
import { type Caution, type Outcome, Room } from "../../room/RoomProtocol.ts"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { mayPass } from "../../runtime/ItemFailure.ts"
import { PduVerification, problemText, type VerifiedPdu } from "../PduVerification.ts"
import { type IncomingInvites, isInviteOf } from "./IncomingInvites.ts"
import { makeInviteJoins } from "./InviteJoins.ts"
import { type Dialect, type KnownVersions, noSuchRoom } from "./KnownVersions.ts"
import type { PduReads } from "./PduReads.ts"

/** The outcome of a PDU of a transaction. */
export interface ReceivedPdu {
  /** The PDU's name in the answer to the transaction: `<pdu_id>,<origin>` or the event ID; undefined if it has none. */
  readonly name: string | undefined
  readonly answer: KeptPduAnswer
  /** It could not be verified yet, and is kept until it can be (`UnverifiedPdus`). */
  readonly isKept: boolean
}

export interface ReceiveOptions {
  /** The PDUs that cannot be handled are refused, instead of a death. */
  readonly isLastAttempt?: boolean
  /** What `verify` gave for the PDUs. */
  readonly verified?: ReadonlyArray<VerifiedPdu>
}

/** How many PDUs of one transaction and room may fail for reasons of their own until all of them are refused. */
const maxCulprits = 10

/** A room that a PDU says to be of, and the dialect in which it says so. */
type NamedRoom = readonly [room: RoomId, dialect: Dialect]

/**
 * The rooms that a PDU says to be of. A PDU may have keys of its own beside those of its dialect, also such that the other dialect has:
 * the versions of the rooms decide.
 */
const roomsOf = (pdu: unknown): ReadonlyArray<NamedRoom> => {
  if (!isJsonObject(pdu)) return []
  const { context, room_id } = pdu
  const today = isRoomId(room_id) ? [[room_id, "today"] as const] : []
  return isRoomId(context) ? [...today, [context, "draft"]] : today
}

/** The name of a PDU. In most versions the event ID is known only after the PDU was parsed. */
const nameOf = (pdu: unknown, eventId: EventId | undefined): string | undefined => {
  if (!isJsonObject(pdu)) return undefined
  if (typeof pdu.pdu_id === "string" && typeof pdu.origin === "string") {
    const inDraft = formatEventId(pdu.pdu_id, pdu.origin as ServerName)
    if (eventId === undefined || eventId === inDraft) return `${pdu.pdu_id},${pdu.origin}`
  }
  return eventId ?? (typeof pdu.event_id === "string" ? pdu.event_id : undefined)
}

export const makePduIntake = Effect.fnUntraced(function* (
  { findVersion, versionsOf }: KnownVersions,
  { requireServer }: PduReads,
  { takeInvite }: IncomingInvites
) {
  const { serverName } = yield* HomeServerConfig
  const verification = yield* PduVerification
  const unverifiedPdus = yield* UnverifiedPduStore
  const room = yield* Room.client
  const takeInviteJoins = yield* makeInviteJoins

  const isRemovalOfOurs = (origin: ServerName, event: Event): boolean =>
    event.type === "m.room.member" &&
    (event.content.membership === "leave" || event.content.membership === "ban") &&
    isUserId(event.state_key) &&
    serverNameOf(event.state_key) === serverName &&
    event.origin === origin

  /** Of a room without a local member, this server accepts only invites of its users, and their retraction. */
  const receiveOutside = (origin: ServerName, event: Event): Effect.Effect<Outcome> => {
    const taking = isInviteOf(serverName, event)
      ? Effect.flatMap(findVersion(event.room_id), (version) => takeInvite(origin, event, version?.id))
      : isRemovalOfOurs(origin, event)
        ? ask(room(event.room_id).ReceiveRetraction({ event }))
        : Effect.fail(noSuchRoom(event.room_id))
    return Effect.match(taking, {
      onFailure: (error: MatrixError) => ({ event_id: event.event_id, error: error.error }),
      onSuccess: () => ({ event_id: event.event_id })
    })
  }

  const receiveTogether = Effect.fnUntraced(function* (
    origin: ServerName,
    roomId: RoomId,
    events: ReadonlyArray<Event>,
    caution: Caution | undefined
  ) {
    const message = { origin, events, ...(caution === undefined ? {} : { caution }) }
    const taken = yield* Effect.result(ask(room(roomId).Receive(message)))
    if (Result.isSuccess(taken)) return taken.success
    // Other failures pass: the origin has to repeat the whole transaction.
    if (taken.failure._tag !== "M_NOT_FOUND") return yield* Effect.die(taken.failure)
    return yield* Effect.forEach(events, (event) => receiveOutside(origin, event))
  })

  /**
   * The events of one room. If the handling of one fails, they are tried once more one by one, so that the others are taken
   * without it; each further attempt leaves out one more. PDUs that still fail are then refused.
   */
  const receiveRoom = (
    origin: ServerName,
    roomId: RoomId,
    events: ReadonlyArray<Event>,
    isLastAttempt: boolean,
    attempts = 0
  ): Effect.Effect<ReadonlyArray<Outcome>> => {
    const caution = attempts === 0 ? undefined : isLastAttempt ? "failures" : "faults"
    return Effect.catchCause(receiveTogether(origin, roomId, events, caution), (cause) => {
      if (mayPass(cause, isLastAttempt)) return Effect.failCause(cause)
      if (attempts < maxCulprits) return receiveRoom(origin, roomId, events, isLastAttempt, attempts + 1)
      return Effect.as(
        Effect.logError(`PDUs of ${origin} for ${roomId} cannot be handled`, cause),
        events.map(({ event_id }): Outcome => ({ event_id, error: "The PDU cannot be handled" }))
      )
    })
  }

  /**
   * Keeps PDUs that cannot be verified yet, of rooms that the origin takes part in. Returns the indices of those that were
   * kept.
   */
  const keepUnverified = Effect.fnUntraced(function* (
    origin: ServerName,
    verified: ReadonlyArray<VerifiedPdu>,
    pdus: ReadonlyArray<unknown>
  ) {
    const waiting: Array<UnverifiedPdu & { readonly index: number }> = []
    for (const [index, result] of verified.entries()) {
      if (Result.isSuccess(result) || result.failure._tag !== "NoKeys") continue
      const { signer, unverified } = result.failure
      if (Result.isFailure(yield* Effect.result(requireServer(origin, unverified.room_id)))) continue
      const pdu = pdus[index] as JsonObject
      waiting.push({ index, roomId: unverified.room_id, eventId: unverified.event_id, signer, pdu })
    }
    const kept = yield* unverifiedPdus.keep(origin, waiting)
    return new Set(waiting.filter(({ eventId }) => kept.has(eventId)).map(({ index }) => index))
  })

  /**
   * Reads and verifies PDUs, each by the version of its room. PDUs of an unknown room that arrive in the draft's dialect are
   * read by the draft's version: they may be invites.
   */
  const verify = Effect.fnUntraced(function* (pdus: ReadonlyArray<unknown>) {
    const named = pdus.map(roomsOf)
    const versions = yield* versionsOf(named.flatMap((rooms) => rooms.map(([roomId]) => roomId)))
    const versionIn = ([roomId, dialect]: NamedRoom): RoomVersion | undefined => {
      const version = versions.get(roomId) ?? (dialect === "draft" ? defaultRoomVersion : undefined)
      return version !== undefined && isDraft(version) === (dialect === "draft") ? version : undefined
    }
    const verified: Array<VerifiedPdu> = []
    const byVersion = new Map<RoomVersion, Array<number>>()
    for (const [index, rooms] of named.entries()) {
      const version = rooms.map(versionIn).find((found) => found !== undefined)
      if (version === undefined) {
        const reason = rooms[0] === undefined ? "The PDU names no room" : `There is no room ${rooms[0][0]}`
        verified[index] = Result.fail({ _tag: "Malformed", reason })
        continue
      }
      const indices = byVersion.get(version)
      if (indices === undefined) byVersion.set(version, [index])
      else indices.push(index)
    }
    for (const [version, indices] of byVersion) {
      const results = yield* verification.verifyPdus(
        version,
        indices.map((index) => pdus[index])
      )
      for (const [at, index] of indices.entries()) verified[index] = results[at]!
    }
    return verified
  })

  const receive = Effect.fn("FederationRooms.receive")(function* (
    origin: ServerName,
    pdus: ReadonlyArray<unknown>,
    { isLastAttempt = false, verified: given }: ReceiveOptions = {}
  ) {
    const verified = given ?? (yield* verify(pdus))
    const kept = yield* keepUnverified(origin, verified, pdus)
    const good = verified.flatMap((verifiedPdu) => (Result.isSuccess(verifiedPdu) ? [verifiedPdu.success] : []))
    const isInviteJoin = (event: Event) => event.type === "m.room.invite_join" && event.origin === origin
    const outcomes = yield* takeInviteJoins(good.filter(isInviteJoin), isLastAttempt)
    const refusals: Array<string> = []
    yield* Effect.forEach(
      Map.groupBy(
        good.filter((event) => !isInviteJoin(event)),
        (event) => event.room_id
      ),
      ([roomId, of]) =>
        Effect.map(receiveRoom(origin, roomId, of, isLastAttempt), (of) => {
          for (const { event_id, refusal, ...answer } of of) {
            outcomes.set(event_id, answer)
            if (refusal !== undefined) refusals.push(`${event_id}: ${refusal}`)
          }
        }),
      { concurrency: 8, discard: true }
    )
    for (const refusal of refusals) yield* Effect.logInfo(`A PDU from ${origin} is rejected or soft-failed: ${refusal}`)
    return yield* Effect.forEach(verified, (verifiedPdu, index): Effect.Effect<ReceivedPdu> => {
      const isKept = kept.has(index)
      const answer = Result.isSuccess(verifiedPdu)
        ? (outcomes.get(verifiedPdu.success.event_id) ?? {})
        : isKept
          ? {}
          : { error: problemText(verifiedPdu.failure) }
      const eventId = Result.isSuccess(verifiedPdu) ? verifiedPdu.success.event_id : verifiedPdu.failure.eventId
      const received = { name: nameOf(pdus[index], eventId), answer, isKept }
      return answer.error === undefined
        ? Effect.succeed(received)
        : Effect.as(Effect.logWarning(`PDU ${received.name} from ${origin} is refused: ${answer.error}`), received)
    })
  })

  return { receive, verify }
})
