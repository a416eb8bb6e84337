/**
 * The federation API, version 1, and the key endpoints of the draft and of today, as one definition.
 *
 * It is served below its own prefix, and below today's (`ServerServerApi`) where a request can only be of the draft; with or
 * without a slash at the end. The listener rewrites what arrives to one spelling (`canonicalFederationUrl`). A signature
 * covers the URL as it was sent.
 *
 * Source: "Federation" of the draft.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { AnyObject, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { ProfileField } from "../api/Parameters.ts"
import { encodeSemicolons } from "../api/Semicolons.ts"
import { WireErrors } from "../api/WireError.ts"
import { RoomAlias, RoomId, ServerName, UserId } from "../Identifiers.ts"
import { PresencePush } from "./Edu.ts"
import {
  DirectoryAnswer,
  InviteAnswer,
  MakeMembershipAnswer,
  PdusAnswer,
  PullAnswer,
  SendJoinAnswer,
  StateAnswer,
  TransactionAnswer
} from "./FederationAnswers.ts"
import { KeyGroup } from "./KeyApi.ts"
import { OriginAuthentication } from "./OriginAuthentication.ts"
import { PduReference } from "./PduReference.ts"
import { FederationTransactionId, maxPrevIds, Transaction } from "./Transaction.ts"

/** The prefix of the federation API in the draft. */
export const federationPrefix = "/matrix/federation/v1"

/** The most PDUs that back-fill answers with, and as many as it does where the asker does not say. */
export const maxBackfill = 100

/** The most PDUs that back-fill starts from. */
const maxBackfillFrom = 50

const todaysPrefix = "/_matrix/federation/v1/"

/** Paths below today's prefix that only the draft has. */
const draftPaths = /^(?:pdu|pull|3pid|query\/(?:presence|client_versions))(?:\/|$)/

/** Paths of both that name an event: the draft's without the sigil that today's has. */
const handshakePath = /^(?:send_join|send_leave|send_knock|invite)\/[^/]+\/(?!\$|%24)/

/** Whether a request below today's prefix is one of the draft: it names no event, or names it as the draft does. */
const isOfTheDraft = (path: string, query: string): boolean =>
  draftPaths.test(path) ||
  handshakePath.test(path) ||
  (path.startsWith("state/") && !/[?&]event_id=/.test(query)) ||
  (path.startsWith("backfill/") && !/[?&]v=(?:\$|%24)/.test(query))

/** The path of a draft's endpoint in the draft's form. */
const draftPath = (path: string, query: string): string => {
  const isDraft =
    path.startsWith("/_matrix/key/v1") ||
    (path.startsWith(todaysPrefix) && isOfTheDraft(path.slice(todaysPrefix.length), query))
  return isDraft ? `/${path.slice(2)}` : path
}

/**
 * The URL in the one spelling that is routed: requests of the draft's federation API below today's prefix move below its
 * own, and there is no slash at the end of the path.
 */
export const canonicalFederationUrl = (sent: string): string => {
  const url = encodeSemicolons(sent)
  const query = url.indexOf("?")
  const path = query === -1 ? url : url.slice(0, query)
  const moved = draftPath(path, query === -1 ? "" : url.slice(query))
  const trimmed = moved.length > 1 && moved.endsWith("/") ? moved.slice(0, -1) : moved
  return query === -1 ? trimmed : trimmed + url.slice(query)
}

const pduId = Schema.String.check(
  Schema.makeFilter(
    (text: string) => (text.length > 0 && text.length < 255 && !text.includes(":")) || "Expected a PDU ID"
  )
)
const wholeNumber = Schema.String.check(Schema.isPattern(/^[0-9]{1,15}$/))
const handshake = { context: RoomId, userId: UserId }
const signed = { context: RoomId, pduId }
const anyServer = "any home server"
const hidden = "Errors: M_NOT_FOUND, also for a room that the server may not see."

const make = (membership: string) =>
  documented({
    summary: `The PDU of a ${membership}, to complete and sign`,
    text: "The first half of a handshake. `event` lacks ID, hash and signature. Errors: M_NOT_FOUND, M_FORBIDDEN.",
    who: "the user's home server"
  })

const send = (membership: string, text: string) =>
  documented({
    summary: `Send a signed ${membership}`,
    text: `The second half of a handshake. The body is the PDU. ${text} Errors: M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON.`,
    who: "the user's home server"
  })

export class FederationGroup extends HttpApiGroup.make("federation")
  .add(
    HttpApiEndpoint.put("send", "/send/:transactionId", {
      params: { transactionId: FederationTransactionId },
      payload: body(Transaction as never),
      success: TransactionAnswer
    }).annotateMerge(
      documented({
        summary: "Send a transaction",
        text:
          "The answer says of each PDU `{}`, or why it was not taken; of an m.room.invite_join it has the membership and " +
          "the room's state. A repeat of a transaction ID gets the first answer. " +
          "Errors: M_BAD_JSON, M_TOO_LARGE.",
        who: anyServer
      })
    ),
    HttpApiEndpoint.get("pdu", "/pdu/:origin/:pduId", {
      params: { origin: ServerName, pduId },
      success: PdusAnswer
    }).annotateMerge(documented({ summary: "One PDU", text: hidden, who: "servers that may see it" })),
    HttpApiEndpoint.get("state", "/state/:context", {
      params: { context: RoomId },
      query: { at: Schema.optional(PduReference) },
      success: StateAnswer
    }).annotateMerge(
      documented({
        summary: "The state of a room",
        text: `Now, or before the PDU \`at\`, with the PDUs that authorise it. ${hidden}`,
        who: "servers in the room"
      })
    ),
    HttpApiEndpoint.get("backfill", "/backfill/:context", {
      params: { context: RoomId },
      query: {
        v: Schema.optional(Schema.Array(PduReference).check(Schema.isMaxLength(maxBackfillFrom))),
        limit: Schema.optional(wholeNumber)
      },
      success: PdusAnswer
    }).annotateMerge(
      documented({
        summary: "The PDUs that precede others",
        text: `Newest first, at most ${maxBackfill}. ${hidden}`,
        who: "servers in the room"
      })
    ),
    HttpApiEndpoint.get("pull", "/pull", {
      query: {
        origin: Schema.optional(ServerName),
        v: Schema.optional(Schema.Array(FederationTransactionId).check(Schema.isMaxLength(maxPrevIds)))
      },
      success: PullAnswer
    }).annotateMerge(
      documented({
        summary: "Repeat transactions",
        text: "Those to the asking server after `v`, oldest first. Errors: M_FORBIDDEN for another `origin`.",
        who: anyServer
      })
    ),
    HttpApiEndpoint.get("queryProfile", "/query/profile", {
      query: { user_id: UserId, field: Schema.optional(ProfileField) },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "A profile, or a field of it", text: "Errors: M_NOT_FOUND.", who: anyServer })
    ),
    HttpApiEndpoint.get("queryDirectory", "/query/directory", {
      query: { room_alias: RoomAlias },
      success: DirectoryAnswer
    }).annotateMerge(documented({ summary: "The room of an alias", text: "Errors: M_NOT_FOUND.", who: anyServer })),
    HttpApiEndpoint.get("queryPresence", "/query/presence", {
      query: { user_id: UserId },
      success: body(PresencePush as never) as Schema.Codec<PresencePush>
    }).annotateMerge(
      documented({
        summary: "The presence of a user",
        text: "Errors: M_NOT_FOUND, M_FORBIDDEN.",
        who: "servers with a user who may see it"
      })
    ),
    HttpApiEndpoint.get("queryClientVersions", "/query/client_versions", { success: AnyObject }).annotateMerge(
      documented({ summary: "The versions of the client API", who: anyServer })
    ),
    HttpApiEndpoint.get("query", "/query/:type", { params: { type: Schema.String }, success: AnyObject }).annotateMerge(
      documented({ summary: "Any other query", text: "There is none. Errors: M_NOT_FOUND.", who: anyServer })
    ),
    HttpApiEndpoint.get("makeJoin", "/make_join/:context/:userId", {
      params: handshake,
      success: MakeMembershipAnswer
    }).annotateMerge(make("join")),
    HttpApiEndpoint.put("sendJoin", "/send_join/:context/:pduId", {
      params: signed,
      payload: AnyObject,
      success: SendJoinAnswer
    }).annotateMerge(send("join", "Answers with the state before it, and what authorises that.")),
    HttpApiEndpoint.get("makeLeave", "/make_leave/:context/:userId", {
      params: handshake,
      success: MakeMembershipAnswer
    }).annotateMerge(make("leave")),
    HttpApiEndpoint.put("sendLeave", "/send_leave/:context/:pduId", {
      params: signed,
      payload: AnyObject,
      success: Done
    }).annotateMerge(send("leave", "So is an invite rejected.")),
    HttpApiEndpoint.get("makeKnock", "/make_knock/:context/:userId", {
      params: handshake,
      success: MakeMembershipAnswer
    }).annotateMerge(make("knock")),
    HttpApiEndpoint.put("sendKnock", "/send_knock/:context/:pduId", {
      params: signed,
      payload: AnyObject,
      success: Done
    }).annotateMerge(send("knock", "")),
    HttpApiEndpoint.put("invite", "/invite/:context/:pduId", {
      params: signed,
      payload: AnyObject,
      success: InviteAnswer
    }).annotateMerge(
      documented({
        summary: "Invite a user of the asked server",
        text: "The body is the PDU. Answers with it, countersigned. Errors: M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON.",
        who: "the home server of the one who invites"
      })
    ),
    HttpApiEndpoint.put("exchangeThirdPartyInvite", "/exchange_third_party_invite/:context", {
      params: { context: RoomId },
      payload: AnyObject,
      success: Done
    }).annotateMerge(
      documented({
        summary: "Invite a user whose address was invited",
        text:
          "The body is the `BoundInvite` that the identity server sent when the address was bound to the user. Errors: " +
          "M_FORBIDDEN, M_BAD_JSON.",
        who: "the home server of the user"
      })
    )
  )
  .middleware(OriginAuthentication)
  .prefix(federationPrefix)
  .annotateMerge(OpenApi.annotations({ title: "Federation", description: "Requests of home servers." })) {}

export class IdentityGroup extends HttpApiGroup.make("identity")
  .add(
    HttpApiEndpoint.post("onBind", "/3pid/onbind", { payload: AnyObject, success: Done }).annotateMerge(
      documented({
        summary: "An invited address was bound to a user",
        text: "The body is an `OnBind`. Its signatures are the proof. Errors: M_FORBIDDEN, M_BAD_JSON, M_LIMIT_EXCEEDED.",
        who: "identity servers"
      })
    ),
    HttpApiEndpoint.put("onBindToday", "/3pid/onbind", { payload: AnyObject, success: Done }).annotateMerge(
      documented({
        summary: "The same in today's dialect",
        who: "identity servers"
      })
    )
  )
  .prefix(federationPrefix)
  .annotateMerge(OpenApi.annotations({ title: "Identity", description: "Calls of identity servers." })) {}

/** The federation API under the draft's prefix. */
export const FederationApi = HttpApi.make("FederationApi")
  .add(FederationGroup, KeyGroup, IdentityGroup)
  .middleware(WireErrors)
  .annotateMerge(OpenApi.annotations({ title: "Greenroom: the Matrix federation API, version 1", version: "1" }))
export type FederationApi = typeof FederationApi
