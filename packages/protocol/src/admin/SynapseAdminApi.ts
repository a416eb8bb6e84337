/**
 * The part of Synapse's administration API that its tools (`synadm`, ketesa) and test suites use, at its paths. The gateway loads
 * it on first use.
 *
 * Every endpoint is for administrators; others get M_FORBIDDEN. Every use is in the audit log.
 *
 * Source: "Admin API" of Synapse's documentation.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { ClientErrors } from "../client-server/ClientErrors.ts"
import { ServerName, UserId } from "../Identifiers.ts"
import { JsonObject, nullable } from "../Json.ts"
import { anyBody, Count, Flag, ofMedia, ofUser, page, prefix, Text, Time, who } from "./SynapseParameters.ts"
import { rooms } from "./SynapseRooms.ts"
import { users } from "./SynapseUsers.ts"

const media = HttpApiGroup.make("synapseAdmin.media")
  .add(
    HttpApiEndpoint.get("get", `${prefix}/v1/media/:serverName/:mediaId`, {
      params: ofMedia,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Information about a file", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("quarantine", `${prefix}/v1/media/quarantine/:serverName/:mediaId`, {
      params: ofMedia,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Quarantine a file", text: "Errors: M_NOT_FOUND; M_FORBIDDEN for a protected file.", who })
    ),
    HttpApiEndpoint.post("release", `${prefix}/v1/media/unquarantine/:serverName/:mediaId`, {
      params: ofMedia,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Release a file from quarantine", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("protect", `${prefix}/v1/media/protect/:mediaId`, {
      params: { mediaId: ofMedia.mediaId },
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Protect a file of this server from quarantine",
        text: "It is not removed by its age either. Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.post("unprotect", `${prefix}/v1/media/unprotect/:mediaId`, {
      params: { mediaId: ofMedia.mediaId },
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "End the protection of a file", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("quarantineOfUser", `${prefix}/v1/user/:userId/media/quarantine`, {
      params: ofUser,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Quarantine the uploads of a user", who })),
    HttpApiEndpoint.delete("delete", `${prefix}/v1/media/:serverName/:mediaId`, {
      params: ofMedia,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove a file", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("deleteOld", `${prefix}/v1/media/delete`, {
      query: { before_ts: Count, size_gt: Schema.optionalKey(Count), keep_profiles: Schema.optionalKey(Flag) },
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Remove files of this server that were not used since a time",
        text: "Avatars of users and protected files stay.",
        who
      })
    ),
    HttpApiEndpoint.post("purgeRemote", `${prefix}/v1/purge_media_cache`, {
      query: { before_ts: Count },
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Remove files of other servers that were not used since a time",
        text: "It can be fetched again.",
        who
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Content" }))

const TokenLimits = {
  uses_allowed: nullable(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2_000_000_000 }))),
  expiry_time: nullable(Time)
}

const tokens = HttpApiGroup.make("synapseAdmin.tokens")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/v1/registration_tokens`, {
      query: { valid: Schema.optionalKey(Flag) },
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Registration tokens",
        text: "`token` is the ID of each: this server keeps no secrets of them.",
        who
      })
    ),
    HttpApiEndpoint.get("get", `${prefix}/v1/registration_tokens/:token`, {
      params: { token: Text },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "A registration token, by its ID or secret", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.post("create", `${prefix}/v1/registration_tokens/new`, {
      payload: [
        Schema.Struct({
          token: nullable(Schema.String.check(Schema.isPattern(/^[A-Za-z0-9._~-]{1,64}$/))),
          length: nullable(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 }))),
          ...TokenLimits
        }),
        Absent
      ],
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Make a registration token",
        text: "`token` is its secret, shown this once; `token_id` its ID.",
        who
      })
    ),
    HttpApiEndpoint.put("update", `${prefix}/v1/registration_tokens/:token`, {
      params: { token: Text },
      payload: Schema.Struct(TokenLimits),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Change a registration token", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.delete("delete", `${prefix}/v1/registration_tokens/:token`, {
      params: { token: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Delete a registration token", text: "Errors: M_NOT_FOUND.", who }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Registration tokens" }))

const NewNotice = Schema.Struct({
  user_id: UserId,
  content: JsonObject,
  type: Schema.optionalKey(Text),
  state_key: Schema.optionalKey(Text)
})
const noticeErrors = "Errors: M_NOT_FOUND, M_UNKNOWN where the server has no user who sends notices."

const server = HttpApiGroup.make("synapseAdmin.server")
  .add(
    HttpApiEndpoint.get("version", `${prefix}/v1/server_version`, { success: AnyObject }).annotateMerge(
      documented({ summary: "The version of this server", who })
    ),
    HttpApiEndpoint.get("reports", `${prefix}/v1/event_reports`, {
      query: { ...page, user_id: Schema.optionalKey(Text), room_id: Schema.optionalKey(Text) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Reports of events", who })),
    HttpApiEndpoint.get("report", `${prefix}/v1/event_reports/:reportId`, {
      params: { reportId: Count },
      success: AnyObject
    }).annotateMerge(documented({ summary: "A report, with the event", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.delete("deleteReport", `${prefix}/v1/event_reports/:reportId`, {
      params: { reportId: Count },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove a report that is resolved", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("userReports", `${prefix}/v1/user_reports`, {
      query: { ...page, user_id: Schema.optionalKey(Text), target_user_id: Schema.optionalKey(Text) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Reports of users", who })),
    HttpApiEndpoint.get("userReport", `${prefix}/v1/user_reports/:reportId`, {
      params: { reportId: Count },
      success: AnyObject
    }).annotateMerge(documented({ summary: "A report of a user", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.delete("deleteUserReport", `${prefix}/v1/user_reports/:reportId`, {
      params: { reportId: Count },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove a report that is resolved", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("sendNotice", `${prefix}/v1/send_server_notice`, {
      payload: NewNotice,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Send a notice to a user", text: noticeErrors, who })),
    HttpApiEndpoint.put("putNotice", `${prefix}/v1/send_server_notice/:txnId`, {
      params: { txnId: Text },
      payload: NewNotice,
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Send a notice to a user, once for each transaction ID", text: noticeErrors, who })
    ),
    HttpApiEndpoint.get("mediaUsage", `${prefix}/v1/statistics/users/media`, {
      query: {
        ...page,
        search_term: Schema.optionalKey(Text),
        order_by: Schema.optionalKey(Text),
        from_ts: Schema.optionalKey(Count),
        until_ts: Schema.optionalKey(Count)
      },
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "The amount of uploads by user",
        text: "The largest first unless `order_by` is given.",
        who
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "The server" }))

const ofDestination = { destination: ServerName }

const federation = HttpApiGroup.make("synapseAdmin.federation")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/v1/federation/destinations`, {
      query: { ...page, destination: Schema.optionalKey(Text), order_by: Schema.optionalKey(Text) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Other home servers with their status", who })),
    HttpApiEndpoint.get("get", `${prefix}/v1/federation/destinations/:destination`, {
      params: ofDestination,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Another home server with its status", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("rooms", `${prefix}/v1/federation/destinations/:destination/rooms`, {
      params: ofDestination,
      query: page,
      success: AnyObject
    }).annotateMerge(documented({ summary: "The rooms of another home server", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("reset", `${prefix}/v1/federation/destinations/:destination/reset_connection`, {
      params: ofDestination,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "End the back-off of another home server", text: "Errors: M_NOT_FOUND.", who })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Other home servers" }))

/** Synapse's administration API, as far as it is served. */
export const SynapseAdminApi = HttpApi.make("SynapseAdminApi")
  .add(users, rooms, media, tokens, server, federation)
  .middleware(ClientErrors)
  .annotateMerge(OpenApi.annotations({ title: "Greenroom: administration, as Synapse has it", version: "v2" }))
export type SynapseAdminApi = typeof SynapseAdminApi
