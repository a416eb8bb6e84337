/**
 * The endpoints of the federation API as calls of `Federation`.
 *
 * Source: "Federation" of the draft.
 */
import { Federation, type MakeMembership, type SendMembership } from "@greenroom/actors/federation/Federation"
import { encodeJson } from "@greenroom/actors/federation/SlicedJson"
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { done } from "@greenroom/protocol/api/Body"
import { withoutExactNumbers } from "@greenroom/protocol/ExactJson"
import { FederationApi, maxBackfill } from "@greenroom/protocol/federation/FederationApi"
import { SignedRequest } from "@greenroom/protocol/federation/OriginAuthentication"
import { eventIdOf } from "@greenroom/protocol/federation/PduReference"
import { maxEdus, maxPdus, Transaction } from "@greenroom/protocol/federation/Transaction"
import {
  type EventId,
  formatEventId,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import { describeIssue } from "@greenroom/protocol/IssueDescription"
import { BoundInvite } from "@greenroom/protocol/identity/OnBind"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, BadRequest, Forbidden, NotFound, NotJson, TooLarge } from "@greenroom/protocol/MatrixError"
import { Clock, Effect, Option, Result, Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { jsonBytes } from "../JsonAnswer.ts"

const decodeTransaction = Schema.decodeUnknownResult(Transaction)
const decodeBoundInvite = Schema.decodeUnknownResult(BoundInvite)

const badRequest = (error: string) => Effect.fail(new BadRequest({ error }))

/** The body, which must be an object. Errors: M_NOT_JSON, M_BAD_JSON. */
export const objectOf = (content: Json | undefined): Effect.Effect<JsonObject, NotJson | BadJson> => {
  if (content === undefined) return Effect.fail(new NotJson({ error: "There is no body" }))
  return isJsonObject(content)
    ? Effect.succeed(content)
    : Effect.fail(new BadJson({ error: "The body is not a JSON object" }))
}

/** The transaction of a body: of the origin, for this server, and within the limits. Errors: M_BAD_JSON, M_TOO_LARGE, M_UNKNOWN. */
export const transactionOf = Effect.fnUntraced(function* (
  transactionId: string,
  origin: ServerName,
  destination: ServerName,
  content: Json | undefined
) {
  const decoded = decodeTransaction(yield* objectOf(content))
  if (Result.isFailure(decoded)) return yield* new BadJson({ error: describeIssue(decoded.failure.issue).text })
  const { edus = [], pdus = [], prev_ids = [], ...envelope } = decoded.success
  if (pdus.length > maxPdus) return yield* new TooLarge({ error: `A transaction has at most ${maxPdus} PDUs` })
  if (edus.length > maxEdus) return yield* new TooLarge({ error: `A transaction has at most ${maxEdus} EDUs` })
  if ((envelope.origin ?? origin) !== origin) {
    return yield* badRequest(`origin: the transaction names ${envelope.origin}, but ${origin} sent it`)
  }
  if ((envelope.destination ?? destination) !== destination) {
    return yield* badRequest(
      `destination: the transaction is for ${envelope.destination}, this server is ${destination}`
    )
  }
  const ts = envelope.ts ?? envelope.origin_server_ts ?? (yield* Clock.currentTimeMillis)
  return {
    transaction_id: transactionId,
    origin,
    destination,
    ts,
    prev_ids,
    pdus: pdus as ReadonlyArray<Json>,
    edus: withoutExactNumbers(edus as ReadonlyArray<Json>)
  }
})

/** An answer that may have many megabytes, serialised without blocking the event loop. */
export const large = (answer: object) => Effect.map(encodeJson(answer as JsonObject), jsonBytes)

/** The first half of a handshake. Errors: M_FORBIDDEN unless the user is one of the requesting server. */
const makeMembership = (make: MakeMembership, params: { readonly context: RoomId; readonly userId: UserId }) =>
  SignedRequest.use(({ origin }) =>
    serverNameOf(params.userId) === origin
      ? make(origin, params.context, params.userId)
      : Effect.fail(new Forbidden({ error: `${params.userId} is not a user of ${origin}` }))
  )

/** The second half of a handshake, with the PDU that the origin built. */
const sendMembership = <A>(send: SendMembership<A>, params: { readonly context: RoomId; readonly pduId: string }) =>
  SignedRequest.use(({ content, origin }) =>
    Effect.flatMap(objectOf(content), (pdu) => send(origin, params.context, formatEventId(params.pduId, origin), pdu))
  )

const boundInviteOf = Effect.fnUntraced(function* (content: Json | undefined) {
  const decoded = decodeBoundInvite(yield* objectOf(content))
  return Result.isSuccess(decoded)
    ? decoded.success
    : yield* new BadJson({ error: describeIssue(decoded.failure.issue).text })
})

const limitOf = (text: string | undefined): number =>
  text === undefined ? maxBackfill : Math.min(Math.max(Number(text), 1), maxBackfill)

const clientVersions: JsonObject = { versions: ["v1"] }

export const federationHandlers = HttpApiBuilder.group(FederationApi, "federation", (handlers) =>
  Effect.gen(function* () {
    const federation = yield* Federation
    const thirdPartyInvites = yield* ThirdPartyInvites
    const { serverName } = yield* HomeServerConfig

    const asPdus = (pdus: ReadonlyArray<JsonObject>) =>
      Effect.flatMap(Clock.currentTimeMillis, (ts) => large({ origin: serverName, ts, pdus }))

    const findPdu = (origin: ServerName, id: Option.Option<EventId>) =>
      Option.isSome(id)
        ? federation.getPdu(origin, id.value)
        : Effect.fail(new NotFound({ error: "There is no such PDU" }))

    return handlers
      .handleRaw("send", ({ params }) =>
        SignedRequest.use(({ content, origin }) =>
          Effect.flatMap(transactionOf(params.transactionId, origin, serverName, content), (transaction) =>
            Effect.flatMap(federation.receiveTransaction(origin, transaction), large)
          )
        )
      )
      .handle("pdu", ({ params }) =>
        SignedRequest.use(({ origin }) =>
          Effect.flatMap(findPdu(origin, eventIdOf(params.pduId, params.origin)), (pdu) => asPdus([pdu]))
        )
      )
      .handle("state", ({ params, query }) =>
        SignedRequest.use(({ origin }) => Effect.flatMap(federation.getState(origin, params.context, query.at), large))
      )
      .handle("backfill", ({ params, query }) =>
        SignedRequest.use(({ origin }) =>
          Effect.flatMap(federation.backfill(origin, params.context, query.v ?? [], limitOf(query.limit)), asPdus)
        )
      )
      .handle("pull", ({ query }) =>
        SignedRequest.use(({ origin }) =>
          Effect.gen(function* () {
            if ((query.origin ?? origin) !== origin) {
              return yield* new Forbidden({
                error: "Only the destination of a transaction may request it again"
              })
            }
            const transactions = yield* federation.pull(origin, query.v ?? [])
            return yield* large({ origin: serverName, ts: yield* Clock.currentTimeMillis, transactions })
          })
        )
      )
      .handle("queryProfile", ({ query }) =>
        SignedRequest.use(({ origin }) => federation.queryProfile(origin, query.user_id, query.field))
      )
      .handle("queryDirectory", ({ query }) =>
        SignedRequest.use(({ origin }) => federation.queryDirectory(origin, query.room_alias))
      )
      .handle("queryPresence", ({ query }) =>
        SignedRequest.use(({ origin }) => federation.queryPresence(origin, query.user_id))
      )
      .handle("queryClientVersions", () => Effect.succeed(clientVersions))
      .handle("query", ({ params }) => Effect.fail(new NotFound({ error: `There is no query ${params.type}` })))
      .handle("makeJoin", ({ params }) => makeMembership(federation.makeJoin, params))
      .handleRaw("sendJoin", ({ params }) => Effect.flatMap(sendMembership(federation.sendJoin, params), large))
      .handle("makeLeave", ({ params }) => makeMembership(federation.makeLeave, params))
      .handleRaw("sendLeave", ({ params }) => Effect.as(sendMembership(federation.sendLeave, params), done))
      .handle("makeKnock", ({ params }) => makeMembership(federation.makeKnock, params))
      .handleRaw("sendKnock", ({ params }) => Effect.as(sendMembership(federation.sendKnock, params), done))
      .handleRaw("invite", ({ params }) => sendMembership(federation.invite, params))
      .handleRaw("exchangeThirdPartyInvite", ({ params }) =>
        SignedRequest.use(({ content, origin }) =>
          Effect.flatMap(boundInviteOf(content), (bound) =>
            Effect.as(thirdPartyInvites.exchange(origin, params.context, bound), done)
          )
        )
      )
  })
)
