/**
 * What this home server asks others: one method for each endpoint of the federation API, signed with our key.
 *
 * Every method may fail with a `RemoteError`. A server that could not be reached lately is not tried (`Destinations`),
 * except where a user waits for a handshake with it. Nothing in an answer is verified here but its form: PDUs come as
 * they are, for `PduVerification`.
 *
 * Source: "Federation" of the specification.
 */
import { PresencePush } from "@greenroom/protocol/federation/Edu"
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
  isRoomId,
  isServerName,
  localpartOf,
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverNameOf,
  serverPartOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { BoundInvite } from "@greenroom/protocol/identity/OnBind"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Destinations } from "./Destinations.ts"
import { FederationConfig } from "./FederationConfig.ts"
import { defaultRequestTimeout, FederationTransport, type TransportResponse } from "./FederationTransport.ts"
import { makeDestinationLimit } from "./internal/DestinationLimit.ts"
import { type RemoteError, RemoteInvalid, RemoteRefused, RemoteUnreachable } from "./RemoteError.ts"
import { authorizationOf } from "./RequestSigning.ts"
import { encodeCanonicalJson, parseJson } from "./SlicedJson.ts"

/** The largest answers that are read, in bytes. */
const small = 256 * 1024
const transactionAnswer = 1024 * 1024
const pages = 8 * 1024 * 1024
const wholeState = 50 * 1024 * 1024

/** How many request timeouts a small answer may take for which a user waits: a silent server must not hold them up. */
const shortTimeoutFactor = 1 / 3

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

interface Call<A> {
  readonly destination: ServerName
  readonly method: "GET" | "PUT"
  /** The path after the prefix, encoded, with its query. */
  readonly path: string
  readonly content?: JsonObject
  readonly maxBytes: number
  /** How many request timeouts it may take (default 1; a third where a user waits for a small answer). */
  readonly timeoutFactor?: number
  /** A user waits: it is tried whatever happened before. */
  readonly isUrgent?: boolean
  /** The answer, undefined where it is not of the form that was asked for. */
  readonly read: (answer: JsonObject) => A | undefined
}

const path = (...parts: ReadonlyArray<string>): string => parts.map((part) => `/${encodeURIComponent(part)}`).join("")

const withQuery = (path: string, query: ReadonlyArray<readonly [string, string | undefined]>): string => {
  const present = query.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`]))
  return present.length === 0 ? path : `${path}?${present.join("&")}`
}

type Objects = ReadonlyArray<JsonObject>

const objects = (value: unknown): Objects | undefined =>
  Array.isArray(value) && value.every(isJsonObject) ? value : undefined

const readPdus = (answer: JsonObject): Objects | undefined => objects(answer.pdus)

const readState = (answer: JsonObject): StateAnswer | undefined => {
  const [pdus, auth_chain] = [objects(answer.pdus), objects(answer.auth_chain)]
  return pdus === undefined || auth_chain === undefined ? undefined : { pdus, auth_chain }
}

const readJoined = (answer: JsonObject): SendJoinAnswer | undefined => {
  const [state, auth_chain] = [objects(answer.state), objects(answer.auth_chain)]
  return state === undefined || auth_chain === undefined ? undefined : { state, auth_chain }
}

const readMade = ({ event, room_version }: JsonObject): MakeMembershipAnswer | undefined =>
  isJsonObject(event) && typeof room_version === "string" ? { room_version, event } : undefined

const readInvite = ({ event }: JsonObject): InviteAnswer | undefined => (isJsonObject(event) ? { event } : undefined)

const readTransactionAnswer = ({ pdus }: JsonObject): TransactionAnswer | undefined =>
  isJsonObject(pdus) && Object.values(pdus).every(isJsonObject)
    ? { pdus: pdus as TransactionAnswer["pdus"] }
    : undefined

const readDirectory = ({ room_id, servers }: JsonObject): DirectoryAnswer | undefined =>
  isRoomId(room_id) && Array.isArray(servers)
    ? {
        room_id,
        servers: servers.filter((each): each is ServerName => typeof each === "string" && isServerName(each))
      }
    : undefined

const decodePresence = Schema.decodeUnknownOption(PresencePush)
const readPresence = (answer: JsonObject): PresencePush | undefined => {
  const state = answer.state ?? answer.presence
  return Option.getOrUndefined(decodePresence({ ...answer, state, presence: state }))
}

const readAny = (answer: JsonObject): JsonObject => answer

const readNothing = (): true => true

/** A proxy answers so for a server that is not there. */
const unreachableStatuses: ReadonlySet<number> = new Set([502, 503, 504])

const refusal = (destination: ServerName, response: TransportResponse, answer: JsonObject | undefined) => {
  const { retryAfter, status } = response
  if (unreachableStatuses.has(status)) {
    return new RemoteUnreachable({ destination, reason: `the server answered with status ${status}` })
  }
  const { errcode, error, retry_after_ms } = answer ?? {}
  const wait = typeof retry_after_ms === "number" ? retry_after_ms : retryAfter
  return new RemoteRefused({
    destination,
    status,
    errcode: typeof errcode === "string" ? errcode : "M_UNKNOWN",
    error: typeof error === "string" ? error.slice(0, 1_000) : `status ${status}`,
    ...(wait === undefined ? {} : { retryAfter: wait })
  })
}

/** Every endpoint over the one way to call them. */
const endpoints = (
  ourName: ServerName,
  call: <A>(call: Call<A>) => Effect.Effect<A, RemoteError>
): FederationClient["Service"] => {
  const make =
    (membership: string): Make =>
    (destination, roomId, userId) =>
      call({
        destination,
        method: "GET",
        path: path(`make_${membership}`, roomId, userId),
        maxBytes: small,
        timeoutFactor: shortTimeoutFactor,
        isUrgent: true,
        read: readMade
      })

  const send =
    <A>(
      endpoint: string,
      read: (answer: JsonObject) => A | undefined,
      limits = { maxBytes: small, timeoutFactor: 1 }
    ): Send<A> =>
    (destination, roomId, eventId, pdu) =>
      call({
        destination,
        method: "PUT",
        path: path(endpoint, roomId, localpartOf(eventId)),
        content: pdu,
        isUrgent: true,
        read,
        ...limits
      })

  const sendSilently =
    (endpoint: string): Send<void> =>
    (...parameters) =>
      Effect.asVoid(send(endpoint, readNothing, { maxBytes: small, timeoutFactor: shortTimeoutFactor })(...parameters))

  const query = <A>(
    destination: ServerName,
    type: string,
    parameters: ReadonlyArray<readonly [string, string | undefined]>,
    read: (answer: JsonObject) => A | undefined,
    isUrgent = false
  ) =>
    call({
      destination,
      method: "GET",
      path: withQuery(path("query", type), parameters),
      maxBytes: small,
      timeoutFactor: isUrgent ? shortTimeoutFactor : 1,
      isUrgent,
      read
    })

  return {
    sendTransaction: (destination, transaction) =>
      call({
        destination,
        method: "PUT",
        path: path("send", transaction.transaction_id),
        content: transaction as unknown as JsonObject,
        maxBytes: transactionAnswer,
        timeoutFactor: 2,
        read: readTransactionAnswer
      }),
    getPdu: (destination, eventId) =>
      call({
        destination,
        method: "GET",
        path: path("pdu", serverPartOf(eventId) ?? "", localpartOf(eventId)),
        maxBytes: small,
        read: (answer) => readPdus(answer)?.[0]
      }),
    getState: (destination, roomId, at) =>
      call({
        destination,
        method: "GET",
        path: withQuery(path("state", roomId), [["at", at === undefined ? undefined : formatPduReference(at)]]),
        maxBytes: wholeState,
        timeoutFactor: 4,
        read: readState
      }),
    backfill: (destination, roomId, from, limit) =>
      call({
        destination,
        method: "GET",
        path: withQuery(path("backfill", roomId), [
          ...from.map((id) => ["v", formatPduReference(id)] as const),
          ["limit", String(limit)]
        ]),
        maxBytes: pages,
        read: (answer) => readPdus(answer)?.slice(0, limit)
      }),
    pull: (destination, after) =>
      call({
        destination,
        method: "GET",
        path: withQuery("/pull", [["origin", ourName], ...after.map((id) => ["v", id] as const)]),
        maxBytes: pages,
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
    sendJoin: send("send_join", readJoined, { maxBytes: wholeState, timeoutFactor: 4 }),
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
          path: path("exchange_third_party_invite", invite.room_id),
          content: invite as unknown as JsonObject,
          maxBytes: small,
          timeoutFactor: 2,
          read: readNothing
        })
      )
  }
}

const make = Effect.gen(function* () {
  const { serverName: origin } = yield* HomeServerConfig
  const { requestTimeout = defaultRequestTimeout } = yield* FederationConfig
  const transport = yield* FederationTransport
  const destinations = yield* Destinations
  const signingKeys = yield* SigningKeys
  const limited = makeDestinationLimit()

  const exchange = Effect.fnUntraced(function* <A>(call: Call<A>) {
    const { destination, method } = call
    const uri = federationPrefix + call.path
    const body =
      call.content === undefined
        ? undefined
        : yield* Effect.mapError(
            encodeCanonicalJson(call.content),
            ({ reason }) => new RemoteInvalid({ destination, reason: `what is sent has no canonical form: ${reason}` })
          )
    const head = { method, uri, origin, destination }
    const authorization = yield* authorizationOf(head, body, yield* signingKeys.current)
    return yield* transport.request({
      destination,
      method,
      uri,
      headers: { authorization, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body }),
      maxBytes: call.maxBytes,
      timeout: requestTimeout * (call.timeoutFactor ?? 1)
    })
  })

  const answer = Effect.fnUntraced(function* <A>(call: Call<A>) {
    const { destination } = call
    const response = yield* exchange(call)
    const json = yield* Effect.option(parseJson(response.body))
    const object = Option.filter(json, isJsonObject)
    if (response.status >= 300) return yield* refusal(destination, response, Option.getOrUndefined(object))
    const read = Option.isNone(object) ? undefined : call.read(object.value)
    if (read !== undefined) return read
    return yield* new RemoteInvalid({ destination, reason: `the answer to ${call.method} ${call.path} is malformed` })
  })

  const isUnreachable = (error: RemoteError): error is RemoteUnreachable => error._tag === "RemoteUnreachable"

  /** Whatever the server answers shows that it can be reached. */
  const noted = <A>(destination: ServerName, effect: Effect.Effect<A, RemoteError>) =>
    effect.pipe(
      Effect.tap(() => destinations.succeeded(destination)),
      Effect.tapError((error) =>
        isUnreachable(error) ? destinations.failed(destination, error.reason) : destinations.succeeded(destination)
      )
    )

  const call = <A>(call: Call<A>): Effect.Effect<A, RemoteError> => {
    const { destination } = call
    if (destination === origin) {
      return Effect.fail(new RemoteUnreachable({ destination, reason: "that is this server itself" }))
    }
    const limit = limited(destination, noted(destination, answer(call)))
    return call.isUrgent === true ? limit : Effect.andThen(destinations.check(destination), limit)
  }

  return FederationClient.of(endpoints(origin, (each) => Effect.withSpan(call(each), "FederationClient.call")))
})

export class FederationClient extends Context.Service<
  FederationClient,
  {
    /** Sends a transaction: what became of each PDU. */
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
    /** What precedes the events, newest first, at most `limit` (1 to 100). */
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
    /** Where an alias of another server leads. */
    readonly queryDirectory: (alias: RoomAlias) => Effect.Effect<DirectoryAnswer, RemoteError>
    /** The presence of a user of another server. */
    readonly queryPresence: (userId: UserId) => Effect.Effect<PresencePush, RemoteError>
    readonly makeJoin: Make
    /** The state before the join, with what authorises it. At most 50 MiB. */
    readonly sendJoin: Send<SendJoinAnswer>
    readonly makeLeave: Make
    readonly sendLeave: Send<void>
    readonly makeKnock: Make
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
  static readonly layer: Layer.Layer<
    FederationClient,
    never,
    FederationConfig | FederationTransport | Destinations | SigningKeys | HomeServerConfig
  > = Layer.effect(FederationClient, make)
}
