/**
 * Moderation of accounts by administrators.
 *
 * Source: "Server Administration" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { UserId } from "../Identifiers.ts"

const params = { userId: UserId }
const Locked = Schema.Struct({ locked: Schema.Boolean }).annotate({ identifier: "Locked" })
const Suspended = Schema.Struct({ suspended: Schema.Boolean }).annotate({ identifier: "Suspended" })
const who = "administrators"
const errors = "Errors: M_FORBIDDEN, also for an administrator's account; M_INVALID_PARAM, M_NOT_FOUND."

const Connection = Schema.Struct({
  ip: Schema.optionalKey(Schema.String),
  last_seen: Schema.Int.annotate({ description: "Milliseconds since 1970" })
})

/** The sessions of a user, by device ID. */
export const Whois = body(
  Schema.Struct({
    user_id: UserId,
    devices: Schema.Record(
      Schema.String,
      Schema.Struct({ sessions: Schema.Array(Schema.Struct({ connections: Schema.Array(Connection) })) })
    )
  }).annotate({ identifier: "Whois" })
)

export class ModerationApi extends HttpApiGroup.make("clientServer.moderation")
  .add(
    HttpApiEndpoint.get("whois", "/v3/admin/whois/:userId", { params, success: Whois }).annotateMerge(
      documented({
        summary: "The sessions of a user",
        text: "Errors: M_FORBIDDEN, M_INVALID_PARAM, M_NOT_FOUND.",
        who: "administrators, and the user"
      })
    ),
    HttpApiEndpoint.get("locked", "/v1/admin/lock/:userId", { params, success: body(Locked) }).annotateMerge(
      documented({ summary: "Is an account locked?", text: errors, who })
    ),
    HttpApiEndpoint.put("lock", "/v1/admin/lock/:userId", {
      params,
      payload: Locked,
      success: body(Locked)
    }).annotateMerge(
      documented({
        summary: "Lock or unlock an account",
        text: `Its sessions last, but every request is M_USER_LOCKED, except to log out. ${errors}`,
        who
      })
    ),
    HttpApiEndpoint.get("suspended", "/v1/admin/suspend/:userId", {
      params,
      success: body(Suspended)
    }).annotateMerge(documented({ summary: "Is an account suspended?", text: errors, who })),
    HttpApiEndpoint.put("suspend", "/v1/admin/suspend/:userId", {
      params,
      payload: Suspended,
      success: body(Suspended)
    }).annotateMerge(
      documented({
        summary: "Suspend or unsuspend an account",
        text: `It can read, but sending, joining, inviting and changes of its profile are M_USER_SUSPENDED. ${errors}`,
        who
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Administration of accounts" })) {}
