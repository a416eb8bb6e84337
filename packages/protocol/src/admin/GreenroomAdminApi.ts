/**
 * The API of Greenroom's administrators beyond Synapse's: read and verify the audit log, ban users, servers and content, and
 * export the data of a user under dual control; and a user's export of their own data. The gateway loads it on first use.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { ClientErrors } from "../client-server/ClientErrors.ts"
import { UserId } from "../Identifiers.ts"

const who = "administrators"
const prefix = "/_greenroom/admin/v1"
const Count = Schema.NumberFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 1e15 }))
const optional = Schema.optionalKey
const Reason = Schema.String.check(Schema.isMinLength(3), Schema.isMaxLength(1_000))
const ofBan = { kind: Schema.Literals(["user", "server", "sha256"]), value: boundedText(255) }
const ofExport = { exportId: boundedText(64) }

const audit = HttpApiGroup.make("greenroomAdmin.audit")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/audit`, {
      query: {
        before: optional(Count),
        limit: optional(Count),
        actor: optional(boundedText(255)),
        target: optional(boundedText(255))
      },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The audit log, the newest entries first", who })),
    HttpApiEndpoint.get("verify", `${prefix}/audit/verify`, { success: AnyObject }).annotateMerge(
      documented({ summary: "Verify the audit log", text: "`problems` names rows that were changed or cut.", who })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Audit log" }))

const bans = HttpApiGroup.make("greenroomAdmin.bans")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/bans`, { success: AnyObject }).annotateMerge(
      documented({ summary: "Banned users, servers and content", who })
    ),
    HttpApiEndpoint.put("ban", `${prefix}/bans/:kind/:value`, {
      params: ofBan,
      payload: Schema.Struct({ reason: Reason }),
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Ban a user, a server, or content by its SHA-256",
        text:
          "A banned user of this server cannot log in; one of another server cannot invite. A banned server is not " +
          "asked and not answered. Banned content cannot be uploaded or fetched. Errors: M_FORBIDDEN, M_INVALID_PARAM.",
        who
      })
    ),
    HttpApiEndpoint.delete("lift", `${prefix}/bans/:kind/:value`, { params: ofBan, success: AnyObject }).annotateMerge(
      documented({ summary: "Lift a ban", text: "Errors: M_NOT_FOUND.", who })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Bans" }))

const exports = HttpApiGroup.make("greenroomAdmin.exports")
  .add(
    HttpApiEndpoint.get("own", "/_greenroom/client/v1/export", { success: Schema.Void }).annotateMerge(
      documented({
        summary: "All data of the calling user, as JSON lines",
        text:
          'Each line is `{"type": ..., ...}`. The first one, `header`, has the version of the format, the server, the user and the ' +
          "time; the last one, `end`, has the number of lines between and the SHA-256 of all lines before it. Media are named by their URIs.",
        who: "any user"
      })
    ),
    HttpApiEndpoint.get("list", `${prefix}/exports`, {
      query: { from: optional(Count), limit: optional(Count) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Exports that administrators have requested", who })),
    HttpApiEndpoint.post("request", `${prefix}/exports`, {
      payload: Schema.Struct({ user_id: UserId, reason: Reason }),
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Request an export of the data of a user",
        text: "Another administrator must approve it within 24 hours. Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.post("approve", `${prefix}/exports/:exportId/approve`, {
      params: ofExport,
      payload: Schema.Struct({ reason: Reason }),
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Approve an export that another administrator has requested",
        text: "It can be read for 24 hours. Errors: M_FORBIDDEN for the administrator who requested it, M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.get("read", `${prefix}/exports/:exportId`, {
      params: ofExport,
      success: Schema.Void
    }).annotateMerge(
      documented({
        summary: "The export, as JSON lines, once it is approved",
        text: "For the administrator who requested it. Errors: M_FORBIDDEN, M_NOT_FOUND.",
        who
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Exports of the data of users" }))

const ofUser = { userId: UserId }
const Decision = Schema.Struct({ reason: optional(Reason) })
const registrations = HttpApiGroup.make("greenroomAdmin.registrations")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/registrations`, { success: AnyObject }).annotateMerge(
      documented({
        summary: "Accounts that wait for approval, the oldest first",
        text: "`registration_approval` lets them wait.",
        who
      })
    ),
    HttpApiEndpoint.post("approve", `${prefix}/registrations/:userId/approve`, {
      params: ofUser,
      payload: Decision,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Approve a new account",
        text: "Errors: M_NOT_FOUND, M_UNKNOWN for an account that does not wait (any more).",
        who
      })
    ),
    HttpApiEndpoint.post("reject", `${prefix}/registrations/:userId/reject`, {
      params: ofUser,
      payload: Decision,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Reject a new account",
        text:
          "The account is deactivated, and its user ID cannot be registered again. Errors: M_NOT_FOUND; M_UNKNOWN if the account " +
          "does not wait for approval.",
        who
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Registrations that wait for approval" }))

const reports = HttpApiGroup.make("greenroomAdmin.reports")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/reports`, {
      query: { from: optional(Count), limit: optional(Count) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Reports of events, users and rooms, the newest first", who })),
    HttpApiEndpoint.delete("remove", `${prefix}/reports/:reportId`, {
      params: { reportId: Count },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove a report that is resolved", text: "Errors: M_NOT_FOUND.", who }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Reports" }))

/** The API of Greenroom's administrators. */
export const GreenroomAdminApi = HttpApi.make("GreenroomAdminApi")
  .add(audit, bans, exports, registrations, reports)
  .middleware(ClientErrors)
  .annotateMerge(OpenApi.annotations({ title: "Greenroom: administration", version: "v1" }))
