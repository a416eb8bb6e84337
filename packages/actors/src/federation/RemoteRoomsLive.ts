/**
 * `RemoteRooms` over the federation APIs: each room is asked about in the dialect of its version.
 *
 * Source: "Backfilling" and "PDUs and EDUs" of the draft, "Backfilling and retrieving missing events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { isRecommended, policyKeyId, type RoomPolicy } from "@greenroom/room/RoomPolicy"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect, Fiber, Layer, Scope } from "effect"
import { type KnownEvents, RemoteFailure, RemoteRooms } from "../room/RemoteRooms.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { FederationClient } from "./FederationClient.ts"
import type { JoinAnswer } from "./internal/answers.ts"
import { makeReceivedPdus } from "./internal/ReceivedPdus.ts"
import { makeRemoteStates, type StateQuestion, type StateRequests } from "./internal/RemoteStates.ts"
import { PduVerification } from "./PduVerification.ts"
import { PolicyServer } from "./PolicyServer.ts"
import type { RemoteError } from "./RemoteError.ts"
import { ServerServerClient } from "./ServerServerClient.ts"

const failureOf = (error: RemoteError): RemoteFailure =>
  error._tag === "RemoteRefused"
    ? new RemoteFailure({
        destination: error.destination,
        reason: error.error,
        status: error.status,
        errcode: error.errcode,
        ...(error.retryAfter === undefined ? {} : { retryAfter: error.retryAfter }),
        ...(error.roomVersion === undefined ? {} : { roomVersion: error.roomVersion })
      })
    : new RemoteFailure({
        destination: error.destination,
        reason: error.reason,
        ...(error._tag === "RemoteUnreachable" && error.isOwnLimit === true ? { isOwnLimit: true } : {})
      })

/** The requests about a room, in one of the dialects. */
interface Dialect extends StateRequests {
  readonly backfill: FederationClient["Service"]["backfill"]
  readonly missingEvents: (request: {
    readonly destination: ServerName
    readonly roomId: RoomId
    readonly earliest: ReadonlyArray<EventId>
    readonly latest: ReadonlyArray<EventId>
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<JsonObject>, RemoteFailure>
  readonly sendJoin: (
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    pdu: JsonObject,
    omitMembers: boolean,
    take: (list: string, pdus: ReadonlyArray<unknown>) => Effect.Effect<void>
  ) => Effect.Effect<JoinAnswer, RemoteError>
  readonly sendMembership: ServerServerClient["Service"]["sendMembership"]
  readonly invite: ServerServerClient["Service"]["invite"]
}

/** How long a policy server may take, in ms. */
const defaultPolicyTimeout = 10_000

/** Whether an answer has our event: the rest of it may be redacted there. */
const isSame = (returned: Event, ours: Event): boolean =>
  returned.event_id === ours.event_id && returned.hashes?.sha256 === ours.hashes?.sha256

/** Our event with the signatures that another server has added. */
const withSignatures = (ours: Event, returned: Event): Event => ({
  ...ours,
  signatures: { ...returned.signatures, ...ours.signatures }
})

const make = Effect.gen(function* () {
  const client = yield* FederationClient
  const todays = yield* ServerServerClient
  const signingKeys = yield* SigningKeys
  const verification = yield* PduVerification
  const policyServer = yield* PolicyServer
  const { policyServers = {}, serverName } = yield* HomeServerConfig

  const { validOf, verify, verifyArriving, verifyPdu } = makeReceivedPdus(verification)

  // The dialects

  /** How the rooms of the draft's version are asked about. */
  const inDraft: Dialect = {
    backfill: client.backfill,
    missingEvents: ({ destination }) =>
      Effect.fail(new RemoteFailure({ destination, reason: "the draft has no such request" })),
    state: client.getState,
    event: client.getPdu,
    sendJoin: (destination, roomId, eventId, pdu, _omitMembers, take) =>
      Effect.flatMap(client.sendJoin(destination, roomId, eventId, pdu), ({ auth_chain, state }) =>
        Effect.as(Effect.andThen(take("auth_chain", auth_chain), take("state", state)), {})
      ),
    sendMembership: (destination, handshake, ...rest) =>
      Effect.as((handshake === "leave" ? client.sendLeave : client.sendKnock)(destination, ...rest), { state: [] }),
    invite: (destination, roomId, eventId, { event }) => client.invite(destination, roomId, eventId, event)
  }

  /** The same for versions 1 to 12. */
  const inTodays: Dialect = {
    backfill: todays.backfill,
    missingEvents: ({ destination, earliest, latest, limit, roomId }) =>
      Effect.mapError(todays.getMissingEvents(destination, roomId, earliest, latest, limit), failureOf),
    state: todays.getState,
    stateIds: todays.getStateIds,
    event: todays.getEvent,
    sendJoin: todays.sendJoin,
    sendMembership: todays.sendMembership,
    invite: todays.invite
  }

  const dialectOf = (version: RoomVersion): Dialect => (isDraft(version) ? inDraft : inTodays)

  /** The room state for the invited user, as PDUs. */
  const toShown = Effect.fnUntraced(function* (version: RoomVersion, shown: ReadonlyArray<Event>) {
    const key = yield* signingKeys.current
    return shown.map((event) =>
      version.toPdu(
        event.origin === key.serverName && event.signatures[key.serverName] === undefined
          ? version.sign(event, key)
          : event
      )
    )
  })

  /** The signature of the policy server by its key. This server may be the one. */
  const askPolicy = Effect.fnUntraced(function* (policy: RoomPolicy, version: RoomVersion, event: Event) {
    const { via } = policy
    const pdu = version.toPdu(event)
    const signatures =
      via === serverName
        ? yield* Effect.mapError(
            policyServer.sign(pdu),
            ({ _tag: errcode, error }) => new RemoteFailure({ destination: via, reason: error, errcode })
          )
        : yield* Effect.mapError(todays.askPolicy(via, pdu, policyServers.timeout ?? defaultPolicyTimeout), failureOf)
    const signature = signatures[policyKeyId]
    if (typeof signature !== "string") {
      const reason = "The policy server does not recommend the event"
      return yield* new RemoteFailure({ destination: via, reason, errcode: "M_FORBIDDEN" })
    }
    const added = { ...event.signatures[via], [policyKeyId]: signature }
    const signed: Event = { ...event, signatures: { ...event.signatures, [via]: added } }
    if (isRecommended(version, signed, policy)) return signed
    return yield* new RemoteFailure({ destination: via, reason: "the signature is not by the key of m.room.policy" })
  })

  const remoteState = makeRemoteStates(failureOf)

  const stateAt = (question: StateQuestion, voucher?: ServerName) =>
    remoteState(dialectOf(question.version), question, (pdus) =>
      validOf(question.destination, question.version, question.roomId, pdus, { voucher })
    )

  /** Hands a join in, and verifies the answer while it arrives. */
  const takeJoin = Effect.fnUntraced(function* (
    destination: ServerName,
    version: RoomVersion,
    event: Event,
    omitMembers: boolean
  ) {
    const { event_id: at, room_id: roomId } = event
    const { take, verified } = verifyArriving(destination, version, roomId)
    const scope = yield* Effect.scope
    const answer = yield* Effect.mapError(
      dialectOf(version).sendJoin(destination, roomId, at, version.toPdu(event), omitMembers, (list, pdus) =>
        Effect.provideService(take(list, pdus), Scope.Scope, scope)
      ),
      failureOf
    )
    const vouched = yield* Effect.forkScoped(verification.joinedThrough(roomId, destination))
    const returned = answer.event === undefined ? undefined : yield* verifyPdu(destination, version, answer.event)
    if (returned !== undefined && !isSame(returned, event)) {
      return yield* new RemoteFailure({ destination, reason: "another event came back than the join" })
    }
    const lists = yield* verified
    yield* Fiber.join(vouched)
    return {
      signed: returned === undefined ? undefined : withSignatures(event, returned),
      ...lists,
      isPartial: answer.members_omitted === true
    }
  }, Effect.scoped)

  return RemoteRooms.of({
    verify: (version, pdus, voucher) => verify(version, pdus, { voucher }),
    askPolicy,
    backfill: (destination, version, roomId, from, limit) =>
      Effect.flatMap(
        Effect.mapError(dialectOf(version).backfill(destination, roomId, from, limit), failureOf),
        (pdus) => validOf(destination, version, roomId, pdus, { history: true })
      ),
    missingEvents: (destination, version, roomId, earliest, latest, limit) =>
      Effect.flatMap(dialectOf(version).missingEvents({ destination, roomId, earliest, latest, limit }), (pdus) =>
        validOf(destination, version, roomId, pdus)
      ),
    stateAt: (destination, version, roomId, at, known) => stateAt({ destination, version, roomId, at, known }),
    stateIds: (destination, version, roomId, at) => {
      const { stateIds } = dialectOf(version)
      if (stateIds === undefined)
        return Effect.fail(new RemoteFailure({ destination, reason: "the draft has no such request" }))
      return Effect.mapBoth(stateIds(destination, roomId, at), {
        onFailure: failureOf,
        onSuccess: ({ pdu_ids }) => pdu_ids
      })
    },
    event: Effect.fnUntraced(function* (destination, version, roomId, eventId) {
      const pdu = yield* Effect.mapError(dialectOf(version).event(destination, eventId), failureOf)
      const event = yield* verifyPdu(destination, version, pdu)
      if (event.event_id === eventId && event.room_id === roomId) return event
      return yield* new RemoteFailure({ destination, reason: `another event came back than ${eventId}` })
    }),
    makeMembership: (destination, handshake, roomId, userId) =>
      Effect.mapError(todays.makeMembership(destination, handshake, roomId, userId), failureOf),
    sendJoin: Effect.fnUntraced(function* (destination, version, event, known) {
      const { event_id: at, room_id: roomId } = event
      const { authChain, isPartial, signed, state } = yield* takeJoin(destination, version, event, known !== undefined)
      if (!isPartial) return { event: signed, state, authChain }
      const given = new Map([...authChain, ...state].map((entry) => [entry.event_id, entry]))
      const alsoGiven: KnownEvents = (ids) =>
        Effect.map(
          known === undefined ? Effect.succeed(new Map<EventId, Event>()) : known(ids),
          (found) => new Map([...given, ...found])
        )
      const whole = yield* stateAt({ destination, version, roomId, at, known: alsoGiven }, destination)
      return { event: signed, state: whole.state, authChain: [...authChain, ...whole.authChain] }
    }),
    sendMembership: (destination, version, handshake, event) =>
      Effect.mapError(
        Effect.map(
          dialectOf(version).sendMembership(
            destination,
            handshake,
            event.room_id,
            event.event_id,
            version.toPdu(event)
          ),
          ({ state }) => ({ shown: state })
        ),
        failureOf
      ),
    invite: Effect.fnUntraced(function* (destination, version, event, shown) {
      const answer = yield* Effect.mapError(
        dialectOf(version).invite(destination, event.room_id, event.event_id, {
          event: version.toPdu(event),
          room_version: version.id,
          invite_room_state: yield* toShown(version, shown)
        }),
        failureOf
      )
      const signed = yield* Effect.mapError(
        verifyPdu(destination, version, answer.event),
        ({ reason }) => new RemoteFailure({ destination, reason, errcode: "M_BAD_JSON" })
      )
      if (!isSame(signed, event)) {
        return yield* new RemoteFailure({ destination, reason: "another event came back than the invite" })
      }
      return withSignatures(event, signed)
    })
  })
})

/** Provides `RemoteRooms` to the Room actors. */
export const layer = Layer.effect(RemoteRooms, make)
