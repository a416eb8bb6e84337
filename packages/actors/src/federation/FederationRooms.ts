/**
 * The rooms that other servers and this one share: what comes in for them, and what is given out of them. Requests of
 * other servers arrive here from `Federation`, those of our own users from `Rooms`.
 *
 * Source: "PDUs and EDUs" and "Backfilling" of the specification.
 */

import type { Event } from "@greenroom/protocol/Event"
import type { InviteAnswer, SendJoinAnswer, StateAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import {
  type EventId,
  isUserId,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { defaultRoomVersion, roomVersion } from "@greenroom/room/RoomVersions"
import { AccountStore } from "@greenroom/store/AccountStore"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import type { KeptPduAnswer } from "@greenroom/store/ReceivedTransactionStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { beginning, comparePositions } from "@greenroom/store/StreamToken"
import { type UnverifiedPdu, UnverifiedPduStore } from "@greenroom/store/UnverifiedPduStore"
import { Context, Effect, Layer, Option, Result } from "effect"
import { makeMembershipLimits } from "../room/MembershipLimits.ts"
import { type MembershipHandshake, RemoteRooms } from "../room/RemoteRooms.ts"
import { type Caution, type Outcome, Room } from "../room/RoomProtocol.ts"
import { ask } from "../runtime/Ask.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { mayPass } from "../runtime/ItemFailure.ts"
import { sliced } from "../runtime/Slices.ts"
import type { MakeMembership, SendMembership } from "./Federation.ts"
import { makeInviteJoins } from "./internal/InviteJoins.ts"
import { PduVerification, problemText, type VerifiedPdu } from "./PduVerification.ts"

/** What became of a PDU of a transaction. */
export interface ReceivedPdu {
  /** `<pdu_id>,<origin>`, as the answer to a transaction names it; undefined if the PDU has no ID. */
  readonly name: string | undefined
  readonly answer: KeptPduAnswer
  /** It could not be verified yet, and is kept until it can be (`UnverifiedPdus`). */
  readonly isKept: boolean
}

export class FederationRooms extends Context.Service<
  FederationRooms,
  {
    /**
     * Takes PDUs as they came, in any order and of any rooms: form, signature, hash, missing predecessors, rules. Answers
     * when what was taken is durable. Never fails for a bad PDU; dies where the same may succeed at another time, except
     * at the last attempt.
     */
    readonly receive: (
      origin: ServerName,
      pdus: ReadonlyArray<unknown>,
      isLastAttempt?: boolean
    ) => Effect.Effect<ReadonlyArray<ReceivedPdu>>
    readonly getPdu: (origin: ServerName, eventId: EventId) => Effect.Effect<JsonObject, MatrixError>
    readonly getState: (origin: ServerName, roomId: RoomId, at?: EventId) => Effect.Effect<StateAnswer, MatrixError>
    readonly backfill: (
      origin: ServerName,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<JsonObject>, MatrixError>
    readonly makeJoin: MakeMembership
    readonly sendJoin: SendMembership<SendJoinAnswer>
    readonly makeLeave: MakeMembership
    readonly sendLeave: SendMembership<void>
    readonly makeKnock: MakeMembership
    readonly sendKnock: SendMembership<void>
    readonly invite: SendMembership<InviteAnswer>
    /** Events that are to be sent, in PDU form and signed by us where they bear no signature yet. */
    readonly toPdus: (events: ReadonlyArray<Event>) => Effect.Effect<ReadonlyArray<JsonObject>>
  }
>()("greenroom/actors/federation/FederationRooms") {
  static readonly layer = Layer.effect(
    FederationRooms,
    Effect.suspend(() => make)
  )
}

/** How many PDUs of one transaction and room may fail for reasons of their own until all of them are refused. */
const maxCulprits = 10

const notFound = (roomId: RoomId) => new NotFound({ error: `There is no room ${roomId}` })

/** What a PDU is called before anything of it was checked. */
const nameOf = (pdu: unknown): string | undefined =>
  isJsonObject(pdu) && typeof pdu.pdu_id === "string" && typeof pdu.origin === "string"
    ? `${pdu.pdu_id},${pdu.origin}`
    : undefined

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const remote = yield* RemoteRooms
  const verification = yield* PduVerification
  const unverifiedPdus = yield* UnverifiedPduStore
  const room = yield* Room.client
  const rooms = yield* RoomStore
  const events = yield* EventStore
  const accounts = yield* AccountStore
  const signingKeys = yield* SigningKeys
  const limits = yield* makeMembershipLimits
  const takeInviteJoins = yield* makeInviteJoins

  // Giving out

  /**
   * Our events are hashed and signed when they leave the server; doing so for many of them lets others go on in between.
   * An event that has no PDU form is logged and left out: the rest must not wait for it.
   */
  const toPdus = Effect.fnUntraced(function* (given: ReadonlyArray<Event>) {
    const key = yield* signingKeys.current
    const { failed, pdus } = yield* sliced(function* () {
      const pdus: Array<JsonObject> = []
      const failed: Array<readonly [EventId, unknown]> = []
      for (const event of given) {
        try {
          const isUnsigned = event.origin === serverName && event.signatures[serverName] === undefined
          pdus.push(defaultRoomVersion.toPdu(isUnsigned ? defaultRoomVersion.sign(event, key) : event))
        } catch (error) {
          failed.push([event.event_id, error])
        }
        yield
      }
      return { pdus, failed }
    })
    for (const [id, error] of failed) yield* Effect.logError(`${id} cannot be made a PDU and is not sent`, error)
    return pdus
  })

  const versionOf = Effect.fnUntraced(function* (roomId: RoomId) {
    const version = Option.map(yield* rooms.version(roomId), roomVersion)
    return Option.isSome(version) && version.value !== undefined ? version.value : yield* notFound(roomId)
  })

  const serversOf = (roomId: RoomId): Effect.Effect<ReadonlyArray<ServerName>, MatrixError> =>
    ask(room(roomId).Servers())

  /** A server that has no part in a room is told that there is none. */
  const requireServer = Effect.fnUntraced(function* (origin: ServerName, roomId: RoomId) {
    if (!(yield* serversOf(roomId)).includes(origin)) return yield* notFound(roomId)
  })

  const getPdu = Effect.fn("FederationRooms.getPdu")(function* (origin: ServerName, eventId: EventId) {
    const stored = (yield* events.byIds([eventId]))[0]
    const missing = new NotFound({ error: `There is no PDU ${eventId}` })
    if (stored === undefined || stored.status === EventStatus.rejected) return yield* missing
    yield* Effect.mapError(requireServer(origin, stored.event.room_id), () => missing)
    return (yield* toPdus([stored.event]))[0]!
  })

  const getState = Effect.fn("FederationRooms.getState")(function* (origin: ServerName, roomId: RoomId, at?: EventId) {
    const { authChain, state } = yield* ask(room(roomId).GetState({ origin, ...(at === undefined ? {} : { at }) }))
    return { pdus: yield* toPdus(state), auth_chain: yield* toPdus(authChain) }
  })

  const backfill = Effect.fn("FederationRooms.backfill")(function* (
    origin: ServerName,
    roomId: RoomId,
    from: ReadonlyArray<EventId>,
    limit: number
  ) {
    yield* requireServer(origin, roomId)
    const known = (yield* events.byIds(from)).filter((each) => each.event.room_id === roomId)
    const roomNid = known[0]?.roomNid
    if (roomNid === undefined) return []
    const newest = known.map((each) => each.position).reduce((a, b) => (comparePositions(a, b) >= 0 ? a : b))
    const upTo = { xid: newest.xid, nid: newest.nid - 1 }
    const page = yield* events.timelines([{ roomNid, after: beginning, upTo }], "b", Math.min(limit, 100))
    return yield* toPdus(page.map(({ event }) => event))
  })

  // Taking in

  const isInviteOfOurs = (event: Event): boolean =>
    event.type === "m.room.member" &&
    event.content.membership === "invite" &&
    isUserId(event.state_key) &&
    serverNameOf(event.state_key) === serverName

  /** In a room that we have no part in, only an invite of one of ours is taken. */
  const receiveOutside = (origin: ServerName, event: Event) =>
    isInviteOfOurs(event)
      ? Effect.match(takeInvite(origin, event), {
          onFailure: (error) => ({ event_id: event.event_id, error: error.error }),
          onSuccess: () => ({ event_id: event.event_id })
        })
      : Effect.succeed({ event_id: event.event_id, error: `There is no room ${event.room_id}` })

  const receiveTogether = Effect.fnUntraced(function* (
    origin: ServerName,
    roomId: RoomId,
    events: ReadonlyArray<Event>,
    caution: Caution | undefined
  ) {
    const message = { origin, events, ...(caution === undefined ? {} : { caution }) }
    const taken = yield* Effect.result(ask(room(roomId).Receive(message)))
    if (Result.isSuccess(taken)) return taken.success
    // Whatever else it is passes: the whole is to be sent again.
    if (taken.failure._tag !== "M_NOT_FOUND") return yield* Effect.die(taken.failure)
    return yield* Effect.forEach(events, (event) => receiveOutside(origin, event))
  })

  /**
   * The events of one room. If the handling of one fails, they are tried once more one by one, so that the others are
   * taken without it; each further attempt leaves out one more. What still fails then is refused.
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
        events.map(({ event_id }) => ({ event_id, error: "The PDU cannot be handled" }))
      )
    })
  }

  /** Keeps what cannot be verified yet, of rooms that the origin takes part in. Gives the places of what is kept. */
  const keepUnverified = Effect.fnUntraced(function* (
    origin: ServerName,
    verified: ReadonlyArray<VerifiedPdu>,
    pdus: ReadonlyArray<unknown>
  ) {
    const waiting: Array<UnverifiedPdu & { readonly index: number }> = []
    for (const [index, each] of verified.entries()) {
      if (Result.isSuccess(each) || each.failure._tag !== "NoKeys") continue
      const { signer, unverified } = each.failure
      if (Result.isFailure(yield* Effect.result(requireServer(origin, unverified.room_id)))) continue
      const pdu = pdus[index] as JsonObject
      waiting.push({ index, roomId: unverified.room_id, eventId: unverified.event_id, signer, pdu })
    }
    const kept = yield* unverifiedPdus.keep(origin, waiting, false)
    return new Set(waiting.filter(({ eventId }) => kept.has(eventId)).map(({ index }) => index))
  })

  const receive = Effect.fn("FederationRooms.receive")(function* (
    origin: ServerName,
    pdus: ReadonlyArray<unknown>,
    isLastAttempt = false
  ) {
    const verified = yield* verification.verifyPdus(defaultRoomVersion, pdus)
    const kept = yield* keepUnverified(origin, verified, pdus)
    const good = verified.flatMap((each) => (Result.isSuccess(each) ? [each.success] : []))
    const isInviteJoin = (event: Event) => event.type === "m.room.invite_join" && event.origin === origin
    const outcomes = yield* takeInviteJoins(good.filter(isInviteJoin), isLastAttempt)
    yield* Effect.forEach(
      Map.groupBy(
        good.filter((event) => !isInviteJoin(event)),
        (event) => event.room_id
      ),
      ([roomId, of]) =>
        Effect.map(receiveRoom(origin, roomId, of, isLastAttempt), (of) => {
          for (const { event_id, ...answer } of of) outcomes.set(event_id, answer)
        }),
      { concurrency: 8, discard: true }
    )
    return yield* Effect.forEach(verified, (each, index): Effect.Effect<ReceivedPdu> => {
      const isKept = kept.has(index)
      const answer = Result.isSuccess(each)
        ? (outcomes.get(each.success.event_id) ?? {})
        : isKept
          ? {}
          : { error: problemText(each.failure) }
      const received = { name: nameOf(pdus[index]), answer, isKept }
      return answer.error === undefined
        ? Effect.succeed(received)
        : Effect.as(Effect.logWarning(`PDU ${received.name} from ${origin} is refused: ${answer.error}`), received)
    })
  })

  // Handshakes

  /** The event of a handshake, checked against the path that it came by. */
  const readHandshake = Effect.fnUntraced(function* (roomId: RoomId, eventId: EventId, pdu: JsonObject) {
    const version = Option.getOrElse(yield* Effect.option(versionOf(roomId)), () => defaultRoomVersion)
    const [verified] = yield* remote.verify(version, [pdu])
    const event = yield* Effect.fromResult(Result.mapError(verified!, (error) => new BadJson({ error })))
    if (event.event_id !== eventId || event.room_id !== roomId) {
      return yield* new BadJson({ error: "the PDU is not the one that the path names" })
    }
    return { event, version }
  })

  const makeMembership =
    (handshake: MembershipHandshake): MakeMembership =>
    (origin, roomId, userId) =>
      serverNameOf(userId) === origin
        ? ask(room(roomId).MakeMembership({ handshake, userId }))
        : Effect.fail(new Forbidden({ error: `${userId} is no user of ${origin}` }))

  const sendMembership = Effect.fnUntraced(function* (
    handshake: MembershipHandshake,
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject
  ) {
    const { event } = yield* readHandshake(roomId, eventId, pdu)
    return yield* ask(room(roomId).SendMembership({ origin, handshake, event }))
  })

  const sendJoin = Effect.fn("FederationRooms.sendJoin")(function* (
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject
  ) {
    const { authChain, state } = yield* sendMembership("join", origin, roomId, eventId, pdu)
    return { state: yield* toPdus(state), auth_chain: yield* toPdus(authChain) }
  })

  const takeInvite = Effect.fnUntraced(function* (origin: ServerName, event: Event) {
    if (!isInviteOfOurs(event)) return yield* new BadJson({ error: "the PDU is no invite of a user of this server" })
    const account = yield* accounts.find(event.state_key as UserId)
    if (Option.isNone(account) || account.value.deactivatedAt !== undefined) {
      return yield* new NotFound({ error: `There is no user ${event.state_key}` })
    }
    yield* limits.mustTakeInvitation(event.state_key as UserId)
    const version = defaultRoomVersion.id
    return yield* ask(room(event.room_id).ReceiveInvite({ origin, event, version }))
  })

  const invite = Effect.fn("FederationRooms.invite")(function* (
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject
  ) {
    const { event, version } = yield* readHandshake(roomId, eventId, pdu)
    return { event: version.toPdu(yield* takeInvite(origin, event)) }
  })

  return FederationRooms.of({
    receive,
    getPdu,
    getState,
    backfill,
    makeJoin: makeMembership("join"),
    makeLeave: makeMembership("leave"),
    makeKnock: makeMembership("knock"),
    sendJoin,
    sendLeave: (...parameters) => Effect.asVoid(sendMembership("leave", ...parameters)),
    sendKnock: (...parameters) => Effect.asVoid(sendMembership("knock", ...parameters)),
    invite,
    toPdus
  })
})
