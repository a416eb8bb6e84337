/**
 * Today's federation API as calls of `ServerServer`, and of `Federation` for requests that have the same form in both dialects.
 *
 * Source: the server-server specification.
 */
import { Federation } from "@greenroom/actors/federation/Federation"
import { type MissingEvents, ServerServer } from "@greenroom/actors/federation/ServerServer"
import { encodeJson } from "@greenroom/actors/federation/SlicedJson"
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import type { MembershipHandshake } from "@greenroom/actors/room/RemoteRooms"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { SignedRequest } from "@greenroom/protocol/federation/OriginAuthentication"
import {
  type EventId,
  isEventId,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import { isJsonObject, itemsOf, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, Forbidden, NotFound } from "@greenroom/protocol/MatrixError"
import { maxBackfill, maxMissingEvents, ServerServerApi } from "@greenroom/protocol/server-server/ServerServerApi"
import { Clock, Effect } from "effect"
import { HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { large, objectOf, transactionOf } from "../federation/FederationHandlers.ts"
import { GatewayVersion } from "../GatewayVersion.ts"
import { jsonBytes } from "../JsonAnswer.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { UnreadAnswers } from "../UnreadAnswers.ts"
import { streamPdus } from "./PduStream.ts"

/** The first version of some endpoints answers with a pair of status and body. */
const pair = (answer: object) =>
  Effect.map(encodeJson(answer as JsonObject), (bytes) =>
    jsonBytes(Buffer.concat([Buffer.from("[200,"), bytes, Buffer.from("]")]))
  )

const isListOfIds = (value: Json | undefined): value is ReadonlyArray<EventId> =>
  Array.isArray(value) && value.every((entry) => isEventId(entry))

/** How many events `get_missing_events` follows back. Those that the server has may be more: a room has any number of extremities. */
const maxLatest = 100

const countOf = (value: Json | undefined, otherwise: number, most: number): number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? Math.min(value, most) : otherwise

/** The parameters of `get_missing_events`. Errors: M_BAD_JSON. */
const missingOf = (body: JsonObject): Effect.Effect<MissingEvents, BadJson> => {
  const { earliest_events: earliest = [], latest_events: latest = [], limit, min_depth } = body
  if (!isListOfIds(earliest) || !isListOfIds(latest) || latest.length > maxLatest) {
    return Effect.fail(
      new BadJson({ error: `earliest_events, latest_events: expected lists of event IDs, ${maxLatest} latest at most` })
    )
  }
  return Effect.succeed({
    earliest,
    latest,
    limit: countOf(limit, 10, maxMissingEvents),
    minDepth: countOf(min_depth, 0, Number.MAX_SAFE_INTEGER)
  })
}

/** An invite by the second version of the endpoint. Errors: M_BAD_JSON. */
const inviteOf = (body: JsonObject) => {
  const { event, invite_room_state, room_version } = body
  if (!isJsonObject(event)) return new BadJson({ error: "event: expected an object" })
  if (typeof room_version !== "string") return new BadJson({ error: "room_version: expected a string" })
  return Effect.succeed({ event, roomVersion: room_version, shown: itemsOf(invite_room_state) })
}

/** An invite by the first version of the endpoint, which is for rooms of versions 1 and 2 and does not say which. */
const firstInviteOf = (event: JsonObject) => ({
  event,
  roomVersion: undefined,
  shown: isJsonObject(event.unsigned) ? itemsOf(event.unsigned.invite_room_state) : []
})

const requestOf = (body: JsonObject) => {
  const { filter, include_all_networks, limit, since, third_party_instance_id } = body
  const term = isJsonObject(filter) ? filter.generic_search_term : undefined
  const types = isJsonObject(filter) ? filter.room_types : undefined
  return {
    ...(typeof limit === "number" ? { limit } : {}),
    ...(typeof since === "string" ? { since } : {}),
    ...(typeof term === "string" ? { search: term.slice(0, 255) } : {}),
    ...(Array.isArray(types)
      ? { types: types.filter((entry): entry is string | null => entry === null || typeof entry === "string") }
      : {}),
    allNetworks: include_all_networks === true,
    ...(typeof third_party_instance_id === "string" && third_party_instance_id !== ""
      ? { network: third_party_instance_id }
      : {})
  }
}

export const serverServerHandlers = HttpApiBuilder.group(ServerServerApi, "serverServer", (handlers) =>
  Effect.gen(function* () {
    const { serverName } = yield* HomeServerConfig
    const federation = yield* Federation
    const servers = yield* ServerServer
    const thirdPartyInvites = yield* ThirdPartyInvites
    const unread = yield* UnreadAnswers

    const pdusOf = (pdus: ReadonlyArray<JsonObject>) =>
      Effect.flatMap(Clock.currentTimeMillis, (origin_server_ts) =>
        large({ origin: serverName, origin_server_ts, pdus })
      )

    const make =
      (handshake: MembershipHandshake) =>
      ({
        params,
        query
      }: {
        readonly params: { readonly roomId: RoomId; readonly userId: UserId }
        readonly query?: { readonly ver?: ReadonlyArray<string> | undefined }
      }) =>
        SignedRequest.use(({ origin }) =>
          serverNameOf(params.userId) === origin
            ? servers.makeMembership(origin, handshake, params.roomId, params.userId, query?.ver)
            : Effect.fail(new Forbidden({ error: `${params.userId} is not a user of ${origin}` }))
        )

    /** The second half of a handshake, with the body that the origin signed. */
    const signed = <A, E, R>(handle: (origin: ServerName, body: JsonObject) => Effect.Effect<A, E, R>) =>
      SignedRequest.use(({ content, origin }) => Effect.flatMap(objectOf(content), (body) => handle(origin, body)))

    type Event = { readonly params: { readonly roomId: RoomId; readonly eventId: EventId } }

    const sendLeave = ({ params }: Event) =>
      signed((origin, pdu) => servers.sendLeave(origin, params.roomId, params.eventId, pdu))

    return handlers
      .handleRaw("send", ({ params }) =>
        SignedRequest.use(({ content, origin }) =>
          transactionOf(params.transactionId, origin, serverName, content).pipe(
            // Synapse, too, answers a transaction with too many PDUs or EDUs with M_BAD_JSON; 413 is for the size of the body.
            Effect.catchTag("M_TOO_LARGE", ({ error }) => Effect.fail(new BadJson({ error }))),
            Effect.flatMap((transaction) => federation.receiveTransaction(origin, transaction)),
            Effect.flatMap(large)
          )
        )
      )
      .handleRaw("event", ({ params }) =>
        SignedRequest.use(({ origin }) => Effect.flatMap(servers.event(origin, params.eventId), (pdu) => pdusOf([pdu])))
      )
      .handleRaw("state", ({ params, query }) =>
        SignedRequest.use(({ origin }) =>
          Effect.flatMap(servers.getState(origin, params.roomId, query.event_id), large)
        )
      )
      .handleRaw("stateIds", ({ params, query }) =>
        SignedRequest.use(({ origin }) =>
          Effect.flatMap(servers.getStateIds(origin, params.roomId, query.event_id), large)
        )
      )
      .handleRaw("eventAuth", ({ params }) =>
        SignedRequest.use(({ origin }) =>
          Effect.flatMap(servers.getEventAuth(origin, params.roomId, params.eventId), (auth_chain) =>
            large({ auth_chain })
          )
        )
      )
      .handleRaw("backfill", ({ params, query }) =>
        SignedRequest.use(({ origin }) =>
          Effect.flatMap(
            servers.backfill(origin, params.roomId, query.v, Math.min(Number(query.limit), maxBackfill)),
            pdusOf
          )
        )
      )
      .handleRaw("missingEvents", ({ params }) =>
        signed((origin, body) =>
          Effect.flatMap(servers.getMissingEvents(origin, params.roomId, missingOf(body)), (events) =>
            large({ events })
          )
        )
      )
      .handle("timestampToEvent", ({ params, query }) =>
        SignedRequest.use(({ origin }) =>
          Effect.map(
            servers.timestampToEvent(origin, params.roomId, Number(query.ts), query.dir),
            (found): JsonObject => ({ ...found })
          )
        )
      )
      .handle("makeJoin", make("join"))
      .handle("makeLeave", make("leave"))
      .handle("makeKnock", make("knock"))
      .handleRaw("sendJoin", ({ params, query }) =>
        signed((origin, pdu) =>
          Effect.flatMap(
            servers.sendJoin(origin, params.roomId, params.eventId, pdu, query.omit_members === "true"),
            ({ authChain, state, ...rest }) =>
              streamPdus(unread, { origin: serverName, ...rest }, { auth_chain: authChain, state }, servers.toPdus)
          )
        )
      )
      .handleRaw("sendJoinV1", ({ params }) =>
        signed((origin, pdu) =>
          Effect.gen(function* () {
            const { authChain, state, ...rest } = yield* servers.sendJoin(
              origin,
              params.roomId,
              params.eventId,
              pdu,
              false
            )
            const pdus = { auth_chain: yield* servers.toPdus(authChain), state: yield* servers.toPdus(state) }
            return yield* pair({ origin: serverName, ...rest, ...pdus })
          })
        )
      )
      .handleRaw("sendLeave", (event) => Effect.andThen(sendLeave(event), large({})))
      .handleRaw("sendLeaveV1", (event) => Effect.andThen(sendLeave(event), pair({})))
      .handleRaw("sendKnock", ({ params }) =>
        signed((origin, pdu) =>
          Effect.flatMap(servers.sendKnock(origin, params.roomId, params.eventId, pdu), (knock_room_state) =>
            large({ knock_room_state })
          )
        )
      )
      .handleRaw("invite", ({ params }) =>
        signed((origin, body) =>
          Effect.flatMap(inviteOf(body), (invite) =>
            Effect.flatMap(servers.invite(origin, params.roomId, params.eventId, invite), large)
          )
        )
      )
      .handleRaw("inviteV1", ({ params }) =>
        signed((origin, event) =>
          Effect.flatMap(servers.invite(origin, params.roomId, params.eventId, firstInviteOf(event)), pair)
        )
      )
      .handleRaw("publicRooms", ({ query: { include_all_networks, limit, since, third_party_instance_id } }) =>
        SignedRequest.use(() =>
          Effect.flatMap(
            servers.publicRooms({
              ...(limit === undefined ? {} : { limit: Number(limit) }),
              ...(since === undefined ? {} : { since }),
              allNetworks: include_all_networks === "true",
              network: third_party_instance_id || undefined
            }),
            large
          )
        )
      )
      .handleRaw("findPublicRooms", () =>
        signed((_origin, body) => Effect.flatMap(servers.publicRooms(requestOf(body)), large))
      )
      .handleRaw("hierarchy", ({ params, query }) =>
        SignedRequest.use(({ origin }) =>
          Effect.flatMap(servers.hierarchy(origin, params.roomId, query.suggested_only === "true"), large)
        )
      )
      .handleRaw("exchangeThirdPartyInvite", ({ params }) =>
        signed((origin, template) =>
          Effect.andThen(thirdPartyInvites.exchangeToday(origin, params.roomId, template), large({}))
        )
      )
      .handle("queryProfile", ({ query }) =>
        SignedRequest.use(({ origin }) => federation.queryProfile(origin, query.user_id, query.field))
      )
      .handle("queryDirectory", ({ query }) =>
        SignedRequest.use(({ origin }) => federation.queryDirectory(origin, query.room_alias))
      )
      .handle("query", ({ params }) => Effect.fail(new NotFound({ error: `There is no query ${params.type}` })))
  })
)

export const openServerHandlers = HttpApiBuilder.group(ServerServerApi, "serverServer.open", (handlers) =>
  Effect.gen(function* () {
    const servers = yield* ServerServer
    const version = yield* GatewayVersion
    const limit = yield* RateLimit
    const countRequest = HttpServerRequest.HttpServerRequest.use((request) =>
      limit.takeFrom("anonymous", addressOf(request))
    )
    return handlers
      .handle("version", () => Effect.as(countRequest, { server: { name: "Greenroom", version } }))
      .handle("userinfo", ({ query }) =>
        Effect.andThen(
          countRequest,
          Effect.map(servers.userInfo(query.access_token), (found): JsonObject => ({ ...found }))
        )
      )
  })
)
