/**
 * The rooms that this server shares with others: incoming events and requests for their content. Requests of other servers
 * arrive here from `Federation`, those of our own users from `Rooms`.
 *
 * Source: "PDUs and EDUs" and "Backfilling" of the specification.
 */

import type { Event } from "@greenroom/protocol/Event"
import { withoutExactNumbers } from "@greenroom/protocol/ExactJson"
import type { InviteAnswer, SendJoinAnswer, StateAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import {
  type EventId,
  isRoomId,
  isUserId,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  Forbidden,
  IncompatibleRoomVersion,
  InvalidParam,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion, roomVersion } from "@greenroom/room/RoomVersions"
import { AccountStore } from "@greenroom/store/AccountStore"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import type { KeptPduAnswer } from "@greenroom/store/ReceivedTransactionStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { beginning, laterPosition } from "@greenroom/store/StreamToken"
import { type UnverifiedPdu, UnverifiedPduStore } from "@greenroom/store/UnverifiedPduStore"
import { Context, Effect, Layer, Option, Result } from "effect"
import { makeMembershipLimits } from "../room/MembershipLimits.ts"
import type { MembershipHandshake } from "../room/RemoteRooms.ts"
import { type Caution, type Outcome, Room } from "../room/RoomProtocol.ts"
import { stripped } from "../room/ShownState.ts"
import { ask } from "../runtime/Ask.ts"
import { Bans } from "../runtime/Bans.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { mayPass } from "../runtime/ItemFailure.ts"
import { sliced } from "../runtime/Slices.ts"
import type { MakeMembership, SendMembership } from "./Federation.ts"
import { essentialState } from "./internal/essentialState.ts"
import { makeInviteJoins } from "./internal/InviteJoins.ts"
import { makeServerVisibility } from "./internal/ServerVisibility.ts"
import { PduVerification, problemText, type VerificationProblem, type VerifiedPdu } from "./PduVerification.ts"

/** The two ways in which servers speak of rooms: the draft's, for rooms of its version, and today's. */
export type Dialect = "draft" | "today"

/** The faults of a PDU that may be another server's invention. */
const unproven: ReadonlySet<VerificationProblem["_tag"]> = new Set(["BadSignature", "NoKeys"])

/** An invite of a user of ours as it came. */
export interface ReceivedInvite {
  readonly event: JsonObject
  readonly roomVersion: string
  /** The room state for the invited user: stripped events, or PDUs. */
  readonly shown: ReadonlyArray<JsonObject>
}

/** The outcome of a PDU of a transaction. */
export interface ReceivedPdu {
  /** The PDU's name in the answer to the transaction: `<pdu_id>,<origin>` or the event ID; undefined if it has none. */
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
     * when the accepted PDUs are durable. Never fails for a bad PDU; dies if a repeat may succeed, except at the last
     * attempt.
     */
    readonly receive: (
      origin: ServerName,
      pdus: ReadonlyArray<unknown>,
      isLastAttempt?: boolean
    ) => Effect.Effect<ReadonlyArray<ReceivedPdu>>
    /** Fails with M_NOT_FOUND where the room is known and its federation speaks another dialect. */
    readonly requireDialect: (roomId: RoomId, dialect: Dialect) => Effect.Effect<void, MatrixError>
    readonly getPdu: (origin: ServerName, eventId: EventId) => Effect.Effect<JsonObject, MatrixError>
    readonly getState: (origin: ServerName, roomId: RoomId, at?: EventId) => Effect.Effect<StateAnswer, MatrixError>
    readonly backfill: (
      origin: ServerName,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<JsonObject>, MatrixError>
    readonly makeJoin: MakeMembership
    /** `omitMembers` leaves out memberships that need not be known at first. */
    readonly sendJoin: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      pdu: JsonObject,
      omitMembers?: boolean
    ) => Effect.Effect<SendJoinAnswer & { readonly event: JsonObject }, MatrixError>
    readonly makeLeave: MakeMembership
    readonly sendLeave: SendMembership<void>
    readonly makeKnock: MakeMembership
    /** Answers with the stripped state for the knocking user. */
    readonly sendKnock: SendMembership<ReadonlyArray<JsonObject>>
    readonly invite: SendMembership<InviteAnswer>
    /** The same for a room of any version, with what the invited user is shown of the room. */
    readonly inviteTo: (
      origin: ServerName,
      roomId: RoomId,
      eventId: EventId,
      invite: ReceivedInvite
    ) => Effect.Effect<InviteAnswer, MatrixError>
    /** The events, of those that the server may see, in the form in which it may see them. */
    readonly visiblePdus: (
      origin: ServerName,
      events: ReadonlyArray<StoredEvent>
    ) => Effect.Effect<ReadonlyArray<JsonObject>>
    /** The IDs of the state before an event and of what authorises it. Errors: M_NOT_FOUND. */
    readonly getStateIds: (
      origin: ServerName,
      roomId: RoomId,
      at: EventId
    ) => Effect.Effect<
      { readonly pdu_ids: ReadonlyArray<EventId>; readonly auth_chain_ids: ReadonlyArray<EventId> },
      MatrixError
    >
    /** The servers that take part in the room. */
    readonly serversIn: (roomId: RoomId) => Effect.Effect<ReadonlyArray<ServerName>, MatrixError>
    /**
     * Fails with M_NOT_FOUND for a server that has no part in the room, which does not exist for it, and with M_FORBIDDEN for
     * one in the room that its m.room.server_acl keeps out.
     */
    readonly requireServer: (origin: ServerName, roomId: RoomId) => Effect.Effect<void, MatrixError>
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

/** The name of a PDU. In most versions the event ID is known only after the PDU was parsed. */
const nameOf = (pdu: unknown, eventId: EventId | undefined): string | undefined => {
  if (!isJsonObject(pdu)) return undefined
  if (typeof pdu.pdu_id === "string" && typeof pdu.origin === "string") return `${pdu.pdu_id},${pdu.origin}`
  return eventId ?? (typeof pdu.event_id === "string" ? pdu.event_id : undefined)
}

/** The room that a PDU says to be of, and the dialect in which it says so. */
const roomOf = (pdu: unknown): readonly [room: RoomId, dialect: Dialect] | undefined => {
  if (!isJsonObject(pdu)) return undefined
  if (pdu.pdu_id !== undefined || pdu.context !== undefined) {
    return isRoomId(pdu.context) ? [pdu.context, "draft"] : undefined
  }
  return isRoomId(pdu.room_id) ? [pdu.room_id, "today"] : undefined
}

/** Stripped state of which a user can be shown. */
const strippedOf = (value: JsonObject): ReadonlyArray<JsonObject> => {
  const { content, sender, state_key, type } = value
  const isState = typeof type === "string" && typeof state_key === "string" && isUserId(sender) && isJsonObject(content)
  return isState ? [withoutExactNumbers({ type, state_key, sender, content })] : []
}

/** How many events of a room an invited user is shown. */
const maxShown = 50

/** Of how many rooms the version is remembered. */
const rememberedVersions = 20_000

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const verification = yield* PduVerification
  const unverifiedPdus = yield* UnverifiedPduStore
  const room = yield* Room.client
  const rooms = yield* RoomStore
  const events = yield* EventStore
  const accounts = yield* AccountStore
  const signingKeys = yield* SigningKeys
  const limits = yield* makeMembershipLimits
  const bans = yield* Bans
  const takeInviteJoins = yield* makeInviteJoins

  // Versions

  /** A room that this server takes part in has one version for ever. Invites may lie about that of any other. */
  const knownVersions = new Map<RoomId, RoomVersion>()

  const findVersion = Effect.fnUntraced(function* (roomId: RoomId) {
    const remembered = knownVersions.get(roomId)
    if (remembered !== undefined) return remembered
    const id = yield* rooms.version(roomId)
    const version = Option.isSome(id) ? roomVersion(id.value) : undefined
    if (version === undefined || !(yield* rooms.exists(roomId))) return version
    knownVersions.set(roomId, version)
    if (knownVersions.size > rememberedVersions) knownVersions.delete(knownVersions.keys().next().value!)
    return version
  })

  /** The versions of those of the rooms that this server knows. */
  const versionsOf = Effect.fnUntraced(function* (roomIds: Iterable<RoomId>) {
    const found = new Map<RoomId, RoomVersion>()
    for (const roomId of new Set(roomIds)) {
      const version = yield* findVersion(roomId)
      if (version !== undefined) found.set(roomId, version)
    }
    return found
  })

  const requireDialect = Effect.fnUntraced(function* (roomId: RoomId, dialect: Dialect) {
    const version = yield* findVersion(roomId)
    if (version !== undefined && isDraft(version) !== (dialect === "draft")) return yield* notFound(roomId)
  })

  // Giving out

  /**
   * Our events are hashed and signed when they leave the server; doing so for many of them lets others go on in between.
   * An event that has no PDU form is logged and left out: the rest must not wait for it.
   */
  const toPdus = Effect.fnUntraced(function* (given: ReadonlyArray<Event>) {
    const key = yield* signingKeys.current
    const versions = yield* versionsOf(given.map(({ room_id }) => room_id))
    const { failed, pdus } = yield* sliced(function* () {
      const pdus: Array<JsonObject> = []
      const failed: Array<readonly [EventId, unknown]> = []
      for (const event of given) {
        try {
          const version = versions.get(event.room_id)
          if (version === undefined) throw new Error(`the version of ${event.room_id} is not known`)
          const isUnsigned = event.origin === serverName && event.signatures[serverName] === undefined
          pdus.push(version.toPdu(isUnsigned ? version.sign(event, key) : event))
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

  const serversOf = (roomId: RoomId): Effect.Effect<ReadonlyArray<ServerName>, MatrixError> =>
    ask(room(roomId).Servers())

  const { redactHidden } = yield* makeServerVisibility

  /** Of events that the server may not see it gets what the protocol needs. */
  const visiblePdus = Effect.fnUntraced(function* (origin: ServerName, given: ReadonlyArray<StoredEvent>) {
    const versions = yield* versionsOf(given.map(({ event }) => event.room_id))
    const key = yield* signingKeys.current
    // The hash of the draft is made with the signature, and covers what redaction takes away.
    const signed = given.map((storedEvent) => {
      const { event } = storedEvent
      const isUnsigned = event.origin === serverName && event.signatures[serverName] === undefined
      return isUnsigned
        ? { ...storedEvent, event: versions.get(event.room_id)?.sign(event, key) ?? event }
        : storedEvent
    })
    return yield* toPdus(yield* redactHidden(origin, signed, versions))
  })

  const requireServer = (origin: ServerName, roomId: RoomId): Effect.Effect<void, MatrixError> =>
    ask(room(roomId).RequireServer({ origin }))

  const getPdu = Effect.fn("FederationRooms.getPdu")(function* (origin: ServerName, eventId: EventId) {
    const stored = (yield* events.byIds([eventId]))[0]
    const missing = new NotFound({ error: `There is no PDU ${eventId}` })
    if (stored === undefined || stored.status === EventStatus.rejected) return yield* missing
    yield* Effect.mapError(requireServer(origin, stored.event.room_id), () => missing)
    return (yield* visiblePdus(origin, [stored]))[0]!
  })

  const getState = Effect.fn("FederationRooms.getState")(function* (origin: ServerName, roomId: RoomId, at?: EventId) {
    const { authChain, state } = yield* ask(room(roomId).GetState({ origin, ...(at === undefined ? {} : { at }) }))
    return { pdus: yield* toPdus(state), auth_chain: yield* toPdus(authChain) }
  })

  const getStateIds = Effect.fn("FederationRooms.getStateIds")(function* (
    origin: ServerName,
    roomId: RoomId,
    at: EventId
  ) {
    const { authChain, state } = yield* ask(room(roomId).GetState({ origin, at }))
    const idsOf = (given: ReadonlyArray<Event>) => given.map(({ event_id }) => event_id)
    return { pdu_ids: idsOf(state), auth_chain_ids: idsOf(authChain) }
  })

  const backfill = Effect.fn("FederationRooms.backfill")(function* (
    origin: ServerName,
    roomId: RoomId,
    from: ReadonlyArray<EventId>,
    limit: number
  ) {
    yield* requireServer(origin, roomId)
    const known = (yield* events.byIds(from)).filter((storedEvent) => storedEvent.event.room_id === roomId)
    const roomNid = known[0]?.roomNid
    if (roomNid === undefined) return []
    const newest = known.map((storedEvent) => storedEvent.position).reduce(laterPosition)
    const upTo = { xid: newest.xid, nid: newest.nid - 1 }
    const page = yield* events.timelines([{ roomNid, after: beginning, upTo }], "b", Math.min(limit, 100))
    const found = new Map(
      (yield* events.byIds(page.map(({ event }) => event.event_id))).map((storedEvent) => [
        storedEvent.event.event_id,
        storedEvent
      ])
    )
    return yield* visiblePdus(
      origin,
      page.flatMap(({ event }) => found.get(event.event_id) ?? [])
    )
  })

  // Taking in

  const isInviteOfOurs = (event: Event): boolean =>
    event.type === "m.room.member" &&
    event.content.membership === "invite" &&
    isUserId(event.state_key) &&
    serverNameOf(event.state_key) === serverName

  const isRemovalOfOurs = (origin: ServerName, event: Event): boolean =>
    event.type === "m.room.member" &&
    (event.content.membership === "leave" || event.content.membership === "ban") &&
    isUserId(event.state_key) &&
    serverNameOf(event.state_key) === serverName &&
    event.origin === origin

  /** In a room that we have no part in, only an invite of one of ours is taken, and that it is taken back. */
  const receiveOutside = (origin: ServerName, event: Event): Effect.Effect<Outcome> => {
    const taking = isInviteOfOurs(event)
      ? Effect.flatMap(findVersion(event.room_id), (version) => takeInvite(origin, event, version?.id))
      : isRemovalOfOurs(origin, event)
        ? ask(room(event.room_id).ReceiveRetraction({ event }))
        : Effect.fail(notFound(event.room_id))
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
    for (const [index, each] of verified.entries()) {
      if (Result.isSuccess(each) || each.failure._tag !== "NoKeys") continue
      const { signer, unverified } = each.failure
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
    const named = pdus.map(roomOf)
    const versions = yield* versionsOf(named.flatMap((entry) => (entry === undefined ? [] : [entry[0]])))
    const verified: Array<VerifiedPdu> = []
    const byVersion = new Map<RoomVersion, Array<number>>()
    for (const [index, room] of named.entries()) {
      const version =
        room === undefined
          ? undefined
          : (versions.get(room[0]) ?? (room[1] === "draft" ? defaultRoomVersion : undefined))
      if (room === undefined || version === undefined || isDraft(version) !== (room[1] === "draft")) {
        const reason = room === undefined ? "The PDU names no room" : `There is no room ${room[0]}`
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
    isLastAttempt = false
  ) {
    const verified = yield* verify(pdus)
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
    for (const refusal of refusals) yield* Effect.logInfo(`A PDU from ${origin} does not count: ${refusal}`)
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

  // Handshakes

  /** The event of a handshake, checked against the path that it came by. */
  const readHandshake = Effect.fnUntraced(function* (
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject,
    version: RoomVersion
  ) {
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

  /** A join that a user of ours vouches for bears our signature, which is added here: the room looks into the rest. */
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
        : Effect.fail(new Forbidden({ error: `${userId} is no user of ${origin}` }))

  const sendMembership = Effect.fnUntraced(function* (
    handshake: MembershipHandshake,
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject
  ) {
    const version = yield* findVersion(roomId)
    if (version === undefined) return yield* notFound(roomId)
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
      state: yield* toPdus(state),
      auth_chain: yield* toPdus(authChain),
      event: version.toPdu(event)
    }
  })

  const takeInvite = Effect.fnUntraced(function* (
    origin: ServerName,
    event: Event,
    version: string = defaultRoomVersion.id,
    shown: ReadonlyArray<JsonObject> = []
  ) {
    if (!isInviteOfOurs(event)) return yield* new BadJson({ error: "the PDU is no invite of a user of this server" })
    const account = yield* accounts.find(event.state_key as UserId)
    if (Option.isNone(account) || account.value.deactivatedAt !== undefined) {
      return yield* new NotFound({ error: `There is no user ${event.state_key}` })
    }
    yield* bans.check("user", event.sender)
    yield* limits.mustBeOpen(event.room_id)
    yield* limits.mustTakeInvitation(event.state_key as UserId)
    return yield* ask(room(event.room_id).ReceiveInvite({ origin, event, version, shown }))
  })

  const inviteTo = Effect.fn("FederationRooms.invite")(function* (
    origin: ServerName,
    roomId: RoomId,
    eventId: EventId,
    { event: pdu, roomVersion: id, shown }: ReceivedInvite
  ) {
    const version = roomVersion(id)
    if (version === undefined) {
      return yield* new IncompatibleRoomVersion({
        error: `This server does not know the room version ${id.slice(0, 64)}`,
        room_version: id.slice(0, 64)
      })
    }
    const known = (yield* rooms.exists(roomId)) ? yield* findVersion(roomId) : undefined
    if (known !== undefined && known !== version) {
      return yield* new BadJson({ error: `room_version: ${roomId} has version ${known.id}` })
    }
    const event = yield* readHandshake(roomId, eventId, pdu, version)
    const strippedState = yield* readShown(version, roomId, shown)
    return { event: version.toPdu(yield* takeInvite(origin, event, id, strippedState)) }
  })

  /**
   * The room state for the invited user, as stripped state. From version 12 on these are PDUs, whose hashes must be right:
   * the m.room.create event proves the room ID. Other faulty events are left out.
   */
  const readShown = Effect.fnUntraced(function* (
    version: RoomVersion,
    roomId: RoomId,
    shown: ReadonlyArray<JsonObject>
  ) {
    const few = shown.slice(0, maxShown)
    const createId = version.createEventId(roomId)
    if (createId === undefined) return few.flatMap(strippedOf)
    const events = few.map((pdu) => version.fromPdu(pdu))
    const create = events.find((event) => Result.isSuccess(event) && event.success.event_id === createId)
    if (create === undefined) {
      return yield* new InvalidParam({ error: "invite_room_state: lacks the m.room.create of the room" })
    }
    return events.flatMap((event) =>
      Result.isSuccess(event) && event.success.room_id === roomId && event.success.state_key !== undefined
        ? [stripped(event.success)]
        : []
    )
  })

  const invite = (origin: ServerName, roomId: RoomId, eventId: EventId, event: JsonObject) =>
    inviteTo(origin, roomId, eventId, { event, roomVersion: defaultRoomVersion.id, shown: [] })

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
    sendKnock: (...parameters) =>
      Effect.map(sendMembership("knock", ...parameters), ({ state }) => state.map(stripped)),
    invite,
    inviteTo,
    requireDialect,
    requireServer,
    serversIn: serversOf,
    getStateIds,
    visiblePdus,
    toPdus
  })
})
