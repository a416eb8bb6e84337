/**
 * Today's federation API: requests of home servers about rooms of versions 1 to 12, and about data that belongs to no room.
 *
 * The draft's federation API has paths of the same names; `canonicalFederationUrl` tells requests of the two apart by how
 * they name events. A signature covers the URL as it was sent.
 *
 * Source: the server-server specification.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { ReadOnly } from "../api/Authentication.ts"
import { AnyObject, body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText, ProfileField } from "../api/Parameters.ts"
import { WireErrors } from "../api/WireError.ts"
import { DirectoryAnswer } from "../federation/FederationAnswers.ts"
import { OriginAuthentication } from "../federation/OriginAuthentication.ts"
import { FederationTransactionId, Transaction } from "../federation/Transaction.ts"
import { EventId, HistoricalUserId, RoomAlias, RoomId, UserId } from "../Identifiers.ts"
import { EncryptionFederationGroup } from "./EncryptionFederationGroup.ts"
import { MediaFederationGroup } from "./MediaFederationGroup.ts"
import { openIdUserInfo, serverServerPrefix } from "./OpenIdUserInfo.ts"
import { PolicyFederationGroup } from "./PolicyFederationGroup.ts"

/** The most events that one answer to `backfill` has. */
export const maxBackfill = 100

/** The most events that one answer to `get_missing_events` has. */
export const maxMissingEvents = 100

const number = Schema.String.check(Schema.isPattern(/^[0-9]{1,15}$/))
const flag = Schema.optional(Schema.Literals(["true", "false"]))
const inRoom = { roomId: RoomId }
const membership = { roomId: RoomId, userId: HistoricalUserId }
const event = { roomId: RoomId, eventId: EventId }
/** The ID is compared with that of the PDU in the body, which is checked first: no other ID is well-formed either. */
const sentEvent = { roomId: RoomId, eventId: boundedText(255) as unknown as typeof EventId }
const versions = { ver: Schema.optional(Schema.Array(boundedText(64)).check(Schema.isMaxLength(100))) }
const at = { event_id: EventId }
const anyServer = "any home server"
const inTheRoom = "servers in the room"
const theirs = "the user's home server"
const hidden = "Errors: M_NOT_FOUND, also for a room that the server may not see."

const make = (name: string, text = "") =>
  documented({
    summary: `The event of a ${name}, to complete and sign`,
    text: `The first half of a handshake. ${text}Errors: M_NOT_FOUND, M_FORBIDDEN.`,
    who: theirs
  })

const send = (name: string, text: string) =>
  documented({
    summary: `Send a signed ${name}`,
    text: `The second half of a handshake. The body is the PDU. ${text} Errors: M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON.`,
    who: theirs
  })

const incompatible = "M_INCOMPATIBLE_ROOM_VERSION where `ver` lacks the version of the room. "
const invited = documented({
  summary: "Invite a user of the asked server",
  text:
    "Answers with the event, countersigned. Errors: M_INCOMPATIBLE_ROOM_VERSION, M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON; " +
    "M_INVALID_PARAM from version 12 on, where `invite_room_state` has other things than valid PDUs of the room or lacks m.room.create.",
  who: "the home server of the one who invites"
})
const rooms = documented({ summary: "The list of public rooms", text: "Errors: M_INVALID_PARAM.", who: anyServer })

/** A pair of status and body, as the first version of some endpoints answers. */
const Pair = Schema.Array(Schema.Unknown)

export class RoomFederationGroup extends HttpApiGroup.make("serverServer")
  .add(
    HttpApiEndpoint.put("send", "/v1/send/:transactionId", {
      params: { transactionId: FederationTransactionId },
      payload: body(Transaction as never),
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Send a transaction",
        text:
          "The answer says of each PDU `{}`, or why it was not taken. A repeat of a transaction ID gets the first answer. " +
          "Errors: M_BAD_JSON, also for more than 50 PDUs or 100 EDUs; M_TOO_LARGE for a large body.",
        who: anyServer
      })
    ),
    HttpApiEndpoint.get("event", "/v1/event/:eventId", {
      params: { eventId: EventId },
      success: AnyObject
    }).annotateMerge(documented({ summary: "One event", text: hidden, who: inTheRoom })),
    HttpApiEndpoint.get("state", "/v1/state/:roomId", { params: inRoom, query: at, success: AnyObject }).annotateMerge(
      documented({ summary: "The state before an event", text: hidden, who: inTheRoom })
    ),
    HttpApiEndpoint.get("stateIds", "/v1/state_ids/:roomId", {
      params: inRoom,
      query: at,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "The state before an event, as IDs",
        text: "Errors: M_NOT_FOUND; M_FORBIDDEN for a server outside the room, also where there is none.",
        who: inTheRoom
      })
    ),
    HttpApiEndpoint.get("eventAuth", "/v1/event_auth/:roomId/:eventId", {
      params: event,
      success: AnyObject
    }).annotateMerge(documented({ summary: "The auth chain of an event", text: hidden, who: inTheRoom })),
    HttpApiEndpoint.get("backfill", "/v1/backfill/:roomId", {
      params: inRoom,
      query: { v: Schema.Array(EventId).check(Schema.isMaxLength(50)), limit: number },
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Events and their predecessors",
        text: `Newest first, at most ${maxBackfill}. ${hidden}`,
        who: inTheRoom
      })
    ),
    HttpApiEndpoint.post("missingEvents", "/v1/get_missing_events/:roomId", {
      params: inRoom,
      payload: AnyObject,
      success: AnyObject
    })
      .annotate(ReadOnly, true)
      .annotateMerge(
        documented({
          summary: "The events between others",
          text: `\`latest_events\` are followed back to \`earliest_events\`, at most ${maxMissingEvents}. ${hidden}`,
          who: inTheRoom
        })
      ),
    HttpApiEndpoint.get("timestampToEvent", "/v1/timestamp_to_event/:roomId", {
      params: inRoom,
      query: { ts: number, dir: Schema.Literals(["f", "b"]) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The event closest to a time", text: hidden, who: inTheRoom })),
    HttpApiEndpoint.get("makeJoin", "/v1/make_join/:roomId/:userId", {
      params: membership,
      query: versions,
      success: AnyObject
    }).annotateMerge(make("join", incompatible)),
    HttpApiEndpoint.put("sendJoinV1", "/v1/send_join/:roomId/:eventId", {
      params: sentEvent,
      payload: AnyObject,
      success: Pair
    }).annotateMerge(send("join", "Answers with 200 and the state before it.")),
    HttpApiEndpoint.put("sendJoin", "/v2/send_join/:roomId/:eventId", {
      params: sentEvent,
      query: { omit_members: flag },
      payload: AnyObject,
      success: AnyObject
    }).annotateMerge(
      send(
        "join",
        "Answers with the state before it; with `omit_members` without the memberships that need not be known."
      )
    ),
    HttpApiEndpoint.get("makeLeave", "/v1/make_leave/:roomId/:userId", {
      params: membership,
      success: AnyObject
    }).annotateMerge(make("leave")),
    HttpApiEndpoint.put("sendLeaveV1", "/v1/send_leave/:roomId/:eventId", {
      params: sentEvent,
      payload: AnyObject,
      success: Pair
    }).annotateMerge(send("leave", "Answers with 200 and `{}`.")),
    HttpApiEndpoint.put("sendLeave", "/v2/send_leave/:roomId/:eventId", {
      params: sentEvent,
      payload: AnyObject,
      success: AnyObject
    }).annotateMerge(send("leave", "So is an invite rejected.")),
    HttpApiEndpoint.get("makeKnock", "/v1/make_knock/:roomId/:userId", {
      params: membership,
      query: versions,
      success: AnyObject
    }).annotateMerge(make("knock", incompatible)),
    HttpApiEndpoint.put("sendKnock", "/v1/send_knock/:roomId/:eventId", {
      params: sentEvent,
      payload: AnyObject,
      success: AnyObject
    }).annotateMerge(send("knock", "Answers with PDUs of the state that the user is shown.")),
    HttpApiEndpoint.put("inviteV1", "/v1/invite/:roomId/:eventId", {
      params: sentEvent,
      payload: AnyObject,
      success: Pair
    }).annotateMerge(invited),
    HttpApiEndpoint.put("invite", "/v2/invite/:roomId/:eventId", {
      params: sentEvent,
      payload: AnyObject,
      success: AnyObject
    }).annotateMerge(invited),
    HttpApiEndpoint.get("publicRooms", "/v1/publicRooms", {
      query: {
        limit: Schema.optional(number),
        since: Schema.optional(boundedText(255)),
        include_all_networks: flag,
        third_party_instance_id: Schema.optional(boundedText(255))
      },
      success: AnyObject
    }).annotateMerge(rooms),
    HttpApiEndpoint.post("findPublicRooms", "/v1/publicRooms", {
      payload: AnyObject,
      success: AnyObject
    })
      .annotate(ReadOnly, true)
      .annotateMerge(rooms),
    HttpApiEndpoint.get("hierarchy", "/v1/hierarchy/:roomId", {
      params: inRoom,
      query: { suggested_only: flag },
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "A space and the rooms in it",
        text: hidden,
        who: "servers whose users may know of the space"
      })
    ),
    HttpApiEndpoint.put("exchangeThirdPartyInvite", "/v1/exchange_third_party_invite/:roomId", {
      params: inRoom,
      payload: AnyObject,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Invite a user whose address was invited",
        text:
          "The body is the invite without its place in the room: `content.third_party_invite.signed` is what the identity " +
          "server signed when the address was bound to the user. Errors: M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON.",
        who: "the home server of the user"
      })
    ),
    HttpApiEndpoint.get("queryProfile", "/v1/query/profile", {
      query: { user_id: UserId, field: Schema.optional(ProfileField) },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "A profile, or a field of it", text: "Errors: M_NOT_FOUND.", who: anyServer })
    ),
    HttpApiEndpoint.get("queryDirectory", "/v1/query/directory", {
      query: { room_alias: RoomAlias },
      success: DirectoryAnswer
    }).annotateMerge(documented({ summary: "The room of an alias", text: "Errors: M_NOT_FOUND.", who: anyServer })),
    HttpApiEndpoint.get("query", "/v1/query/:type", {
      params: { type: Schema.String },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Any other query", text: "There is none. Errors: M_NOT_FOUND.", who: anyServer })
    )
  )
  .middleware(OriginAuthentication)
  .prefix(serverServerPrefix)
  .annotateMerge(OpenApi.annotations({ title: "Rooms", description: "Requests of home servers." })) {}

export class OpenServerGroup extends HttpApiGroup.make("serverServer.open")
  .add(
    HttpApiEndpoint.get("version", "/v1/version", { success: AnyObject }).annotateMerge(
      documented({ summary: "Name and version of the server", who: "anyone" })
    ),
    openIdUserInfo
  )
  .prefix(serverServerPrefix)
  .annotateMerge(OpenApi.annotations({ title: "For everybody" })) {}

/** Today's federation API. */
export const ServerServerApi = HttpApi.make("ServerServerApi")
  .add(RoomFederationGroup, OpenServerGroup, MediaFederationGroup, EncryptionFederationGroup, PolicyFederationGroup)
  .middleware(WireErrors)
  .annotateMerge(OpenApi.annotations({ title: "Greenroom: the Matrix server-server API", version: "1.17" }))
export type ServerServerApi = typeof ServerServerApi
