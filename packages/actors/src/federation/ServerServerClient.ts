/**
 * The client of the server-server API, for rooms of versions 1 to 12: one method for each endpoint. Where an endpoint has
 * two versions, servers that lack the second are asked by the first.
 *
 * Every method may fail with a `RemoteError`. Nothing in an answer is verified here but its form: PDUs come as they are, for
 * `PduVerification`.
 *
 * Source: the server-server specification.
 */
import type { InviteAnswer, MakeMembershipAnswer, StateAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import { federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import type { OutgoingTransaction, TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import { type EventId, isEventId, type RoomId, type ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { roomVersions } from "@greenroom/room/RoomVersions"
import type { PreparedRequest } from "@greenroom/store/OutgoingStore"
import { Context, Effect, Layer } from "effect"
import type { PublicRoomsRequest } from "../room/PublicRooms.ts"
import type { MembershipHandshake } from "../room/RemoteRooms.ts"
import {
  answerLimits,
  type Call,
  encodeContent,
  FederationCalls,
  isUnrecognized,
  pathOf,
  type StreamedLists,
  shortTimeoutFactor,
  withQuery
} from "./FederationCalls.ts"
import {
  type JoinAnswer,
  objects,
  readHierarchy,
  readInvite,
  readJoin,
  readJoined,
  readMade,
  readNothing,
  readPdus,
  readPublicRooms,
  readState,
  readStateIds,
  readTransactionAnswer
} from "./internal/answers.ts"
import { type RemoteError, type RemoteInvalid, RemoteUnreachable } from "./RemoteError.ts"

/** The prefix of the server-server API. */
const prefix = "/_matrix/federation"

const path = (version: "v1" | "v2", ...parts: ReadonlyArray<string>): string =>
  `${prefix}/${version}${pathOf(...parts)}`

/** An invite of a user of another server, with the version of the room and what the user is shown of it. */
interface OutgoingInvite {
  readonly event: JsonObject
  readonly room_version: string
  readonly invite_room_state: ReadonlyArray<JsonObject>
}

const joinLists: ReadonlySet<string> = new Set(["state", "auth_chain"])

const publicRoomsContent = ({ allNetworks, limit, network, search, since, types }: PublicRoomsRequest): JsonObject => ({
  ...(limit === undefined ? {} : { limit }),
  ...(since === undefined ? {} : { since }),
  ...(allNetworks ? { include_all_networks: true } : {}),
  ...(network === undefined ? {} : { third_party_instance_id: network }),
  filter: {
    ...(search === undefined ? {} : { generic_search_term: search }),
    ...(types === undefined ? {} : { room_types: types })
  }
})

const knownVersions = [...roomVersions.keys()]

const transactionCall = {
  method: "PUT" as const,
  maxBytes: answerLimits.transaction,
  timeoutFactor: 2,
  read: readTransactionAnswer
}

const isDraftPdu = (pdu: JsonObject): boolean => pdu.pdu_id !== undefined

/** Every endpoint over the one way to call them. */
const endpoints = ({ call, callEither }: FederationCalls["Service"]) => {
  /** Asks by the second version of an endpoint, and by the first where the server has no second one. */
  const newest = <A>(call2: Call<A>, call1: Call<A>): Effect.Effect<A, RemoteError> =>
    Effect.catchIf(call(call2), isUnrecognized, (failure) =>
      Effect.mapError(call(call1), (error) => (isUnrecognized(error) ? failure : error))
    )

  const makeMembership = (
    destination: ServerName,
    handshake: MembershipHandshake,
    roomId: RoomId,
    userId: UserId
  ): Effect.Effect<MakeMembershipAnswer, RemoteError> => {
    const common = {
      destination,
      method: "GET" as const,
      maxBytes: answerLimits.small,
      timeoutFactor: shortTimeoutFactor,
      isUrgent: true,
      read: (answer: JsonObject) =>
        // The servers of versions 1 and 2 did not say which it is.
        readMade(answer.room_version === undefined ? { ...answer, room_version: "1" } : answer)
    }
    const versions = handshake === "leave" ? [] : knownVersions.map((id) => ["ver", id] as const)
    return callEither(
      { ...common, uri: withQuery(path("v1", `make_${handshake}`, roomId, userId), versions) },
      { ...common, uri: federationPrefix + pathOf(`make_${handshake}`, roomId, userId) }
    )
  }

  const transactionCalls = ({ destination, edus, origin, pdus, prev_ids, transaction_id, ts }: OutgoingTransaction) => {
    const common = { destination, ...transactionCall }
    const parts = { origin, pdus, ...(edus === undefined ? {} : { edus }) }
    return {
      inDraft: {
        ...common,
        uri: federationPrefix + pathOf("send", transaction_id),
        content: { ...parts, transaction_id, destination, ts, prev_ids } as unknown as JsonObject
      },
      today: {
        ...common,
        uri: path("v1", "send", transaction_id),
        content: { ...parts, origin_server_ts: ts } as unknown as JsonObject
      }
    }
  }

  /** A transaction of EDUs, which belong to no room. */
  const sendEdus = (transaction: OutgoingTransaction): Effect.Effect<TransactionAnswer, RemoteError> => {
    const { inDraft, today } = transactionCalls(transaction)
    return callEither(today, inDraft)
  }

  /** How a transaction with PDUs goes over the wire: in the dialect of their rooms. */
  const prepareTransaction = (transaction: OutgoingTransaction): Effect.Effect<PreparedRequest, RemoteInvalid> => {
    const { inDraft, today } = transactionCalls(transaction)
    const { content, destination, uri } = transaction.pdus.every(isDraftPdu) ? inDraft : today
    return Effect.map(encodeContent(destination, content), (body) => ({ uri, body }))
  }

  const sendTransaction = (
    destination: ServerName,
    { body, uri }: PreparedRequest
  ): Effect.Effect<TransactionAnswer, RemoteError> => call({ destination, ...transactionCall, uri, body })

  const sendMembership = (
    destination: ServerName,
    handshake: "leave" | "knock",
    roomId: RoomId,
    id: EventId,
    pdu: JsonObject
  ) => {
    const common = {
      destination,
      method: "PUT" as const,
      content: pdu,
      maxBytes: answerLimits.transaction,
      timeoutFactor: shortTimeoutFactor,
      isUrgent: true
    }
    const readState = ({ knock_room_state: shown }: JsonObject) => ({ state: Array.isArray(shown) ? shown : [] })
    const first = { ...common, read: readState, uri: path("v1", `send_${handshake}`, roomId, id) }
    return handshake === "knock" ? call(first) : newest({ ...first, uri: path("v2", "send_leave", roomId, id) }, first)
  }

  return {
    sendEdus,
    prepareTransaction,
    sendTransaction,
    makeMembership,
    sendMembership,
    getEvent: (destination: ServerName, eventId: EventId) =>
      call({
        destination,
        method: "GET",
        uri: path("v1", "event", eventId),
        maxBytes: answerLimits.small,
        hasPdus: true,
        read: (answer) => readPdus(answer)?.[0]
      }),
    getState: (destination: ServerName, roomId: RoomId, at: EventId): Effect.Effect<StateAnswer, RemoteError> =>
      call({
        destination,
        method: "GET",
        uri: withQuery(path("v1", "state", roomId), [["event_id", at]]),
        maxBytes: answerLimits.wholeState,
        timeoutFactor: 4,
        isCostly: true,
        hasPdus: true,
        read: readState
      }),
    getStateIds: (destination: ServerName, roomId: RoomId, at: EventId) =>
      call({
        destination,
        method: "GET",
        uri: withQuery(path("v1", "state_ids", roomId), [["event_id", at]]),
        maxBytes: answerLimits.pages,
        timeoutFactor: 2,
        isCostly: true,
        read: readStateIds
      }),
    getEventAuth: (destination: ServerName, roomId: RoomId, eventId: EventId) =>
      call({
        destination,
        method: "GET",
        uri: path("v1", "event_auth", roomId, eventId),
        maxBytes: answerLimits.pages,
        hasPdus: true,
        read: (answer) => objects(answer.auth_chain)
      }),
    backfill: (destination: ServerName, roomId: RoomId, from: ReadonlyArray<EventId>, limit: number) =>
      call({
        destination,
        method: "GET",
        uri: withQuery(path("v1", "backfill", roomId), [
          ...from.map((id) => ["v", id] as const),
          // The events themselves are part of the answer.
          ["limit", String(limit + from.length)]
        ]),
        maxBytes: answerLimits.pages,
        isCostly: true,
        hasPdus: true,
        read: (answer) => readPdus(answer)?.slice(0, limit + from.length)
      }),
    getMissingEvents: (
      destination: ServerName,
      roomId: RoomId,
      earliest: ReadonlyArray<EventId>,
      latest: ReadonlyArray<EventId>,
      limit: number
    ) =>
      call({
        destination,
        method: "POST",
        uri: path("v1", "get_missing_events", roomId),
        content: { earliest_events: earliest, latest_events: latest, limit },
        maxBytes: answerLimits.pages,
        isCostly: true,
        hasPdus: true,
        // A server that has nothing to give may leave the list out.
        read: (answer) => objects(answer.events ?? [])?.slice(0, limit)
      }),
    timestampToEvent: (destination: ServerName, roomId: RoomId, ts: number, direction: "f" | "b") =>
      call({
        destination,
        method: "GET",
        uri: withQuery(path("v1", "timestamp_to_event", roomId), [
          ["ts", String(ts)],
          ["dir", direction]
        ]),
        maxBytes: answerLimits.small,
        timeoutFactor: shortTimeoutFactor,
        read: ({ event_id }) => (isEventId(event_id) ? event_id : undefined)
      }),
    /**
     * `omitMembers` lets the other server leave out memberships. `take` gets the state and the auth chain while they arrive.
     */
    sendJoin: (
      destination: ServerName,
      roomId: RoomId,
      eventId: EventId,
      pdu: JsonObject,
      omitMembers: boolean,
      take: StreamedLists["take"]
    ): Effect.Effect<JoinAnswer, RemoteError> => {
      const common = {
        destination,
        method: "PUT" as const,
        content: pdu,
        maxBytes: answerLimits.wholeState,
        timeoutFactor: 4,
        isUrgent: true,
        hasPdus: true
      }
      const uri = withQuery(path("v2", "send_join", roomId, eventId), [
        ["omit_members", omitMembers ? "true" : undefined]
      ])
      // The first version answers with a list of two, which comes whole.
      const byFirst = Effect.gen(function* () {
        const { auth_chain, state } = yield* call({
          ...common,
          uri: path("v1", "send_join", roomId, eventId),
          read: readJoined
        })
        yield* take("auth_chain", auth_chain)
        yield* take("state", state)
        return {}
      })
      return Effect.catchIf(
        call({ ...common, uri, lists: { keys: joinLists, take }, read: readJoin }),
        isUnrecognized,
        (failure) => Effect.mapError(byFirst, (error) => (isUnrecognized(error) ? failure : error))
      )
    },
    invite: (
      destination: ServerName,
      roomId: RoomId,
      eventId: EventId,
      invite: OutgoingInvite
    ): Effect.Effect<InviteAnswer, RemoteError> => {
      const common = {
        destination,
        method: "PUT" as const,
        maxBytes: answerLimits.small,
        isUrgent: true,
        hasPdus: true,
        read: readInvite
      }
      const second: Call<InviteAnswer> = {
        ...common,
        uri: path("v2", "invite", roomId, eventId),
        content: invite as unknown as JsonObject
      }
      const first: Call<InviteAnswer> = {
        ...common,
        uri: path("v1", "invite", roomId, eventId),
        content: { ...invite.event, unsigned: { invite_room_state: invite.invite_room_state } }
      }
      return invite.room_version === "1" || invite.room_version === "2" ? newest(second, first) : call(second)
    },
    /** The devices of a user of the server. `isUrgent` asks even a server that could not be reached lately. */
    userDevices: (destination: ServerName, userId: UserId, isUrgent: boolean) =>
      call({
        destination,
        method: "GET",
        uri: path("v1", "user", "devices", userId),
        maxBytes: answerLimits.pages,
        timeoutFactor: shortTimeoutFactor,
        isUrgent,
        read: (answer) => answer
      }),
    /** The keys of users of the server and their devices; an empty list wants all devices. */
    queryKeys: (destination: ServerName, device_keys: JsonObject, isUrgent = true) =>
      call({
        destination,
        method: "POST",
        uri: path("v1", "user", "keys", "query"),
        content: { device_keys },
        maxBytes: answerLimits.pages,
        timeoutFactor: shortTimeoutFactor,
        isUrgent,
        read: (answer) => answer
      }),
    claimKeys: (destination: ServerName, one_time_keys: JsonObject) =>
      call({
        destination,
        method: "POST",
        uri: path("v1", "user", "keys", "claim"),
        content: { one_time_keys },
        maxBytes: answerLimits.pages,
        timeoutFactor: shortTimeoutFactor,
        isUrgent: true,
        read: (answer) => answer
      }),
    /** A page of the server's public rooms. Servers that cannot search are asked for the page without. */
    publicRooms: (destination: ServerName, request: PublicRoomsRequest) => {
      const common = {
        destination,
        maxBytes: answerLimits.summaries,
        timeoutFactor: shortTimeoutFactor,
        read: readPublicRooms
      }
      const { limit, since } = request
      return newest(
        {
          ...common,
          method: "POST",
          uri: path("v1", "publicRooms"),
          content: publicRoomsContent(request)
        },
        {
          ...common,
          method: "GET",
          uri: withQuery(path("v1", "publicRooms"), [
            ["limit", limit === undefined ? undefined : String(limit)],
            ["since", since]
          ])
        }
      )
    },
    /** The server's summary of a room, and of its children if it is a space. */
    hierarchy: (destination: ServerName, roomId: RoomId, suggestedOnly: boolean) =>
      call({
        destination,
        method: "GET",
        uri: withQuery(path("v1", "hierarchy", roomId), [["suggested_only", suggestedOnly ? "true" : "false"]]),
        maxBytes: answerLimits.summaries,
        timeoutFactor: shortTimeoutFactor,
        read: readHierarchy
      }),
    /** Asks a policy server to sign an event: the signatures by key ID. `timeout` in ms. */
    askPolicy: (destination: ServerName, pdu: JsonObject, timeout: number) =>
      Effect.timeoutOrElse(
        call({
          destination,
          method: "POST",
          uri: "/_matrix/policy/v1/sign",
          content: pdu,
          maxBytes: answerLimits.small,
          timeoutFactor: shortTimeoutFactor,
          isUrgent: true,
          read: (answer) => (isJsonObject(answer[destination]) ? answer[destination] : undefined)
        }),
        {
          duration: timeout,
          orElse: () => Effect.fail(new RemoteUnreachable({ destination, reason: `no signature within ${timeout} ms` }))
        }
      ),
    exchangeThirdPartyInvite: (destination: ServerName, roomId: RoomId, template: JsonObject) =>
      Effect.asVoid(
        call({
          destination,
          method: "PUT",
          uri: path("v1", "exchange_third_party_invite", roomId),
          content: template,
          maxBytes: answerLimits.small,
          timeoutFactor: 2,
          read: readNothing
        })
      )
  }
}

const make = Effect.map(FederationCalls, (calls) => ServerServerClient.of(endpoints(calls)))

/** The endpoints of other home servers in today's dialect. Errors: `RemoteError`. */
export class ServerServerClient extends Context.Service<ServerServerClient, ReturnType<typeof endpoints>>()(
  "greenroom/actors/ServerServerClient"
) {
  static readonly layer: Layer.Layer<ServerServerClient, never, FederationCalls> = Layer.effect(
    ServerServerClient,
    make
  )
}
