/**
 * The client of the draft's federation API: one method for each endpoint. Profiles and aliases, which belong to no room, are
 * asked for in today's dialect where the server speaks it.
 *
 * Every method may fail with a `RemoteError`. Nothing in an answer is verified here but its form: PDUs come as they are, for
 * `PduVerification`.
 *
 * Source: "Federation" of the draft.
 */
import type { PresencePush } from "@greenroom/protocol/federation/Edu"
import type {
  DirectoryAnswer,
  InviteAnswer,
  MakeMembershipAnswer,
  SendJoinAnswer,
  StateAnswer
} from "@greenroom/protocol/federation/FederationAnswers"
import { federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import { formatPduReference } from "@greenroom/protocol/federation/PduReference"
import type { OutgoingTransaction, TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import {
  type EventId,
  localpartOf,
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverNameOf,
  serverPartOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { BoundInvite } from "@greenroom/protocol/identity/OnBind"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { answerLimits, type Call, FederationCalls, pathOf, shortTimeoutFactor, withQuery } from "./FederationCalls.ts"
import {
  objects,
  readAny,
  readDirectory,
  readInvite,
  readJoined,
  readMade,
  readNothing,
  readPdus,
  readPresence,
  readState,
  readTransactionAnswer
} from "./internal/answers.ts"
import type { RemoteError } from "./RemoteError.ts"

/** A request for a membership PDU of one of our users. */
type Make = (
  destination: ServerName,
  roomId: RoomId,
  userId: UserId
) => Effect.Effect<MakeMembershipAnswer, RemoteError>

/** A membership PDU that we signed. */
type Send<A> = (
  destination: ServerName,
  roomId: RoomId,
  eventId: EventId,
  pdu: JsonObject
) => Effect.Effect<A, RemoteError>

/** The prefix of today's federation API. */
const todaysPrefix = "/_matrix/federation"

/** A path of the draft's prefix. */
const path = (...parts: ReadonlyArray<string>): string => federationPrefix + pathOf(...parts)

/** Every endpoint over the one way to call them. */
const endpoints = (
  ourName: ServerName,
  call: <A>(call: Call<A>) => Effect.Effect<A, RemoteError>,
  callEither: FederationCalls["Service"]["callEither"]
): FederationClient["Service"] => {
  const make =
    (membership: string): Make =>
    (destination, roomId, userId) =>
      call({
        destination,
        method: "GET",
        uri: path(`make_${membership}`, roomId, userId),
        maxBytes: answerLimits.small,
        timeoutFactor: shortTimeoutFactor,
        isUrgent: true,
        read: readMade
      })

  const send =
    <A>(
      endpoint: string,
      read: (answer: JsonObject) => A | undefined,
      limits = { maxBytes: answerLimits.small, timeoutFactor: 1 }
    ): Send<A> =>
    (destination, roomId, eventId, pdu) =>
      call({
        destination,
        method: "PUT",
        uri: path(endpoint, roomId, localpartOf(eventId)),
        content: pdu,
        isUrgent: true,
        hasPdus: true,
        read,
        ...limits
      })

  const sendSilently =
    (endpoint: string): Send<void> =>
    (...parameters) =>
      Effect.asVoid(
        send(endpoint, readNothing, { maxBytes: answerLimits.small, timeoutFactor: shortTimeoutFactor })(...parameters)
      )

  const query = <A>(
    destination: ServerName,
    type: string,
    parameters: ReadonlyArray<readonly [string, string | undefined]>,
    read: (answer: JsonObject) => A | undefined,
    isUrgent = false
  ) => {
    const asked = {
      destination,
      method: "GET" as const,
      maxBytes: type === "profile" ? answerLimits.profile : answerLimits.small,
      timeoutFactor: shortTimeoutFactor,
      isUrgent,
      read
    }
    const inDraft = { ...asked, uri: withQuery(path("query", type), parameters) }
    return type === "presence"
      ? call(inDraft)
      : callEither({ ...asked, uri: withQuery(`${todaysPrefix}/v1/query/${type}`, parameters) }, inDraft)
  }

  return {
    sendTransaction: (destination, transaction) =>
      call({
        destination,
        method: "PUT",
        uri: path("send", transaction.transaction_id),
        content: transaction as unknown as JsonObject,
        maxBytes: answerLimits.transaction,
        timeoutFactor: 2,
        read: readTransactionAnswer
      }),
    getPdu: (destination, eventId) =>
      call({
        destination,
        method: "GET",
        uri: path("pdu", serverPartOf(eventId) ?? "", localpartOf(eventId)),
        maxBytes: answerLimits.small,
        hasPdus: true,
        read: (answer) => readPdus(answer)?.[0]
      }),
    getState: (destination, roomId, at) =>
      call({
        destination,
        method: "GET",
        uri: withQuery(path("state", roomId), [["at", at === undefined ? undefined : formatPduReference(at)]]),
        maxBytes: answerLimits.wholeState,
        timeoutFactor: 4,
        hasPdus: true,
        read: readState
      }),
    backfill: (destination, roomId, from, limit) =>
      call({
        destination,
        method: "GET",
        uri: withQuery(path("backfill", roomId), [
          ...from.map((id) => ["v", formatPduReference(id)] as const),
          ["limit", String(limit)]
        ]),
        maxBytes: answerLimits.pages,
        hasPdus: true,
        read: (answer) => readPdus(answer)?.slice(0, limit)
      }),
    pull: (destination, after) =>
      call({
        destination,
        method: "GET",
        uri: withQuery(`${federationPrefix}/pull`, [["origin", ourName], ...after.map((id) => ["v", id] as const)]),
        maxBytes: answerLimits.pages,
        read: (answer) => objects(answer.transactions)
      }),
    queryProfile: (userId, field) =>
      query(
        serverNameOf(userId),
        "profile",
        [
          ["user_id", userId],
          ["field", field]
        ],
        readAny
      ),
    queryDirectory: (alias) => query(serverNameOf(alias), "directory", [["room_alias", alias]], readDirectory, true),
    queryPresence: (userId) => query(serverNameOf(userId), "presence", [["user_id", userId]], readPresence),
    makeJoin: make("join"),
    sendJoin: send("send_join", readJoined, { maxBytes: answerLimits.wholeState, timeoutFactor: 4 }),
    makeLeave: make("leave"),
    sendLeave: sendSilently("send_leave"),
    makeKnock: make("knock"),
    sendKnock: sendSilently("send_knock"),
    invite: send("invite", readInvite),
    exchangeThirdPartyInvite: (destination, invite) =>
      Effect.asVoid(
        call({
          destination,
          method: "PUT",
          uri: path("exchange_third_party_invite", invite.room_id),
          content: invite as unknown as JsonObject,
          maxBytes: answerLimits.small,
          timeoutFactor: 2,
          read: readNothing
        })
      )
  }
}

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const { call, callEither } = yield* FederationCalls
  return FederationClient.of(endpoints(serverName, call, callEither))
})

/** The endpoints of other home servers in the draft's dialect. Errors: `RemoteError`. */
export class FederationClient extends Context.Service<
  FederationClient,
  {
    /** Sends a transaction. Returns the outcome of each PDU. */
    readonly sendTransaction: (
      destination: ServerName,
      transaction: OutgoingTransaction
    ) => Effect.Effect<TransactionAnswer, RemoteError>
    /** One PDU. */
    readonly getPdu: (destination: ServerName, eventId: EventId) => Effect.Effect<JsonObject, RemoteError>
    /** The state of a room before an event, or now, with what authorises it. At most 50 MiB. */
    readonly getState: (
      destination: ServerName,
      roomId: RoomId,
      at?: EventId
    ) => Effect.Effect<StateAnswer, RemoteError>
    /** The predecessors of the events, newest first, at most `limit` (1 to 100). */
    readonly backfill: (
      destination: ServerName,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<JsonObject>, RemoteError>
    /** The transactions from the destination to us after those named, oldest first. */
    readonly pull: (
      destination: ServerName,
      after: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyArray<JsonObject>, RemoteError>
    /** The profile of a user of another server, or one field of it. */
    readonly queryProfile: (userId: UserId, field?: string) => Effect.Effect<JsonObject, RemoteError>
    /** The room of an alias of another server, with servers in it. */
    readonly queryDirectory: (alias: RoomAlias) => Effect.Effect<DirectoryAnswer, RemoteError>
    /** The presence of a user of another server. */
    readonly queryPresence: (userId: UserId) => Effect.Effect<PresencePush, RemoteError>
    /** The template of a join of one of our users. */
    readonly makeJoin: Make
    /** The state before the join, with what authorises it. At most 50 MiB. */
    readonly sendJoin: Send<SendJoinAnswer>
    /** The template of a leave of one of our users, or of the rejection of an invitation. */
    readonly makeLeave: Make
    /** Sends the leave. */
    readonly sendLeave: Send<void>
    /** The template of a knock of one of our users. */
    readonly makeKnock: Make
    /** Sends the knock. */
    readonly sendKnock: Send<void>
    /** The invite, countersigned by the destination. */
    readonly invite: Send<InviteAnswer>
    /** Asks the home server of the one who invited an address to invite the user that it was bound to. */
    readonly exchangeThirdPartyInvite: (
      destination: ServerName,
      invite: BoundInvite
    ) => Effect.Effect<void, RemoteError>
  }
>()("greenroom/actors/FederationClient") {
  static readonly layer: Layer.Layer<FederationClient, never, FederationCalls | HomeServerConfig> = Layer.effect(
    FederationClient,
    make
  )
}
