/** The accounts of Synapse's administration API, with their devices and uploads. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText, RoomIdOrAlias } from "../api/Parameters.ts"
import { HistoricalUserId, RoomId, UserId } from "../Identifiers.ts"
import { nullable } from "../Json.ts"
import { Flag, ofUser, page, prefix, Text, Time, who } from "./SynapseParameters.ts"

const Redaction = Schema.Struct({
  rooms: Schema.Array(RoomId),
  reason: nullable(boundedText(1_024)),
  limit: nullable(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1e6 }))),
  use_admin: nullable(Schema.Boolean),
  after_ts: nullable(Time),
  before_ts: nullable(Time)
})

const PerSecond = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e6 }))

const userQuery = {
  ...page,
  user_id: Schema.optionalKey(Text),
  name: Schema.optionalKey(Text),
  guests: Schema.optionalKey(Flag),
  admins: Schema.optionalKey(Flag),
  deactivated: Schema.optionalKey(Flag),
  locked: Schema.optionalKey(Flag),
  order_by: Schema.optionalKey(Text)
}

const UserChange = Schema.Struct({
  password: nullable(Text),
  logout_devices: Schema.optionalKey(Schema.Boolean),
  displayname: nullable(Text),
  avatar_url: nullable(Text),
  threepids: Schema.optionalKey(
    Schema.Array(Schema.Struct({ medium: Schema.Literals(["email", "msisdn"]), address: Text }))
  ),
  external_ids: Schema.optionalKey(Schema.Array(Schema.Struct({ auth_provider: Text, external_id: Text }))),
  admin: Schema.optionalKey(Schema.Boolean),
  deactivated: Schema.optionalKey(Schema.Boolean),
  locked: Schema.optionalKey(Schema.Boolean),
  approved: Schema.optionalKey(Schema.Boolean),
  user_type: nullable(Text)
})

/** The fields of an account to create or to change. */
export type UserChange = typeof UserChange.Type

/** The query of a list of accounts. */
export type UserQuery = { readonly [Key in keyof typeof userQuery]?: NonNullable<(typeof userQuery)[Key]["Type"]> }

export const users = HttpApiGroup.make("synapseAdmin.users")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/v2/users`, { query: userQuery, success: AnyObject }).annotateMerge(
      documented({ summary: "Accounts", text: "`deactivated=true` adds those that are deactivated.", who })
    ),
    HttpApiEndpoint.get("listV3", `${prefix}/v3/users`, { query: userQuery, success: AnyObject }).annotateMerge(
      documented({
        summary: "Accounts",
        text: "`deactivated` chooses those that are deactivated, or the others; without it there are both.",
        who
      })
    ),
    HttpApiEndpoint.get("get", `${prefix}/v2/users/:userId`, { params: ofUser, success: AnyObject }).annotateMerge(
      documented({ summary: "An account", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.put("put", `${prefix}/v2/users/:userId`, {
      params: ofUser,
      payload: UserChange,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Create or change an account",
        text: "Errors: M_INVALID_USERNAME, M_WEAK_PASSWORD, M_BAD_JSON, and M_INVALID_PARAM for what cannot be changed.",
        who
      })
    ),
    HttpApiEndpoint.get("devices", `${prefix}/v2/users/:userId/devices`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "The devices of a user", who })),
    HttpApiEndpoint.post("deleteDevices", `${prefix}/v2/users/:userId/delete_devices`, {
      params: ofUser,
      payload: Schema.Struct({ devices: Schema.Array(Text) }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Log out devices", who })),
    HttpApiEndpoint.get("device", `${prefix}/v2/users/:userId/devices/:deviceId`, {
      params: { ...ofUser, deviceId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "A device of a user", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.put("renameDevice", `${prefix}/v2/users/:userId/devices/:deviceId`, {
      params: { ...ofUser, deviceId: Text },
      payload: Schema.Struct({ display_name: nullable(Text) }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Rename a device", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.delete("deleteDevice", `${prefix}/v2/users/:userId/devices/:deviceId`, {
      params: { ...ofUser, deviceId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Log out a device", who })),
    HttpApiEndpoint.get("joinedRooms", `${prefix}/v1/users/:userId/joined_rooms`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Rooms that a user is in", who })),
    HttpApiEndpoint.get("memberships", `${prefix}/v1/users/:userId/memberships`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "The memberships of a user, by room", who })),
    HttpApiEndpoint.get("pushers", `${prefix}/v1/users/:userId/pushers`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Pushers of a user", who })),
    HttpApiEndpoint.post("deactivate", `${prefix}/v1/deactivate/:userId`, {
      params: ofUser,
      payload: [Schema.Struct({ erase: Schema.optionalKey(Schema.Boolean) }), Absent],
      success: AnyObject
    }).annotateMerge(documented({ summary: "Deactivate an account", who })),
    HttpApiEndpoint.post("resetPassword", `${prefix}/v1/reset_password/:userId`, {
      params: ofUser,
      payload: Schema.Struct({ new_password: Text, logout_devices: Schema.optionalKey(Schema.Boolean) }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Set a password", text: "Errors: M_WEAK_PASSWORD, M_BAD_JSON.", who })),
    HttpApiEndpoint.get("isAdmin", `${prefix}/v1/users/:userId/admin`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Is a user an administrator?", who })),
    HttpApiEndpoint.put("setAdmin", `${prefix}/v1/users/:userId/admin`, {
      params: ofUser,
      payload: Schema.Struct({ admin: Schema.Boolean }),
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Set or remove the admin flag", text: "Administrators cannot remove their own.", who })
    ),
    HttpApiEndpoint.put("suspend", `${prefix}/v1/suspend/:userId`, {
      params: ofUser,
      payload: Schema.Struct({ suspend: Schema.Boolean }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Suspend or unsuspend an account", who })),
    HttpApiEndpoint.get("rate", `${prefix}/v1/users/:userId/override_ratelimit`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "The rate that was set for a user", text: "`{}` for none. Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.post("setRate", `${prefix}/v1/users/:userId/override_ratelimit`, {
      params: ofUser,
      payload: [Schema.Struct({ messages_per_second: nullable(PerSecond), burst_count: nullable(PerSecond) }), Absent],
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Set a rate for a user",
        text:
          "Of requests that change something. 0 messages per second (default) lifts all limits, as for a bot. " +
          "Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.delete("removeRate", `${prefix}/v1/users/:userId/override_ratelimit`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove the rate of a user", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("logIn", `${prefix}/v1/users/:userId/login`, {
      params: ofUser,
      payload: [Schema.Struct({ valid_until_ms: nullable(Time) }), Absent],
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Log in as a user",
        text: "The user sees the login among their devices. Not for other administrators. Errors: M_FORBIDDEN.",
        who
      })
    ),
    HttpApiEndpoint.get("whois", `${prefix}/v1/whois/:userId`, { params: ofUser, success: AnyObject }).annotateMerge(
      documented({ summary: "The sessions of a user, with their addresses", who })
    ),
    HttpApiEndpoint.get("usernameAvailable", `${prefix}/v1/username_available`, {
      query: { username: Text },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Is a user name free?", text: "Errors: M_USER_IN_USE, M_INVALID_USERNAME.", who })
    ),
    HttpApiEndpoint.get("byAddress", `${prefix}/v1/threepid/:medium/users/:address`, {
      params: { medium: Schema.Literals(["email", "msisdn"]), address: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The user of an address", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("bySubject", `${prefix}/v1/auth_providers/:provider/users/:externalId`, {
      params: { provider: Text, externalId: Text },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "The user of an account at a provider", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.get("media", `${prefix}/v1/users/:userId/media`, {
      params: ofUser,
      query: { ...page, order_by: Schema.optionalKey(Text) },
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "The uploads of a user",
        text: "The newest first unless `order_by` or `dir` is given.",
        who
      })
    ),
    HttpApiEndpoint.delete("deleteMedia", `${prefix}/v1/users/:userId/media`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove the uploads of a user", who })),
    HttpApiEndpoint.post("joinRoom", `${prefix}/v1/join/:roomIdOrAlias`, {
      params: { roomIdOrAlias: RoomIdOrAlias },
      payload: Schema.Struct({ user_id: UserId }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Join a user of this server to a room", who })),
    HttpApiEndpoint.post("redact", `${prefix}/v1/user/:userId/redact`, {
      params: { userId: HistoricalUserId },
      payload: Redaction,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Redact all events of a user",
        text:
          "Messages, and the profile in joins: the newest `limit` (1,000) of each room that are not later than the request. " +
          "The user redacts, or the administrator for users of other servers and with `use_admin`; without `rooms`, in " +
          "all rooms that the user is or was in. Goes on after a restart. Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.get("redactStatus", `${prefix}/v1/user/redact_status/:redactId`, {
      params: { redactId: Text },
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "The status of a redaction",
        text: "`failed_redactions` has the first 1,000 errors by event ID. Errors: M_NOT_FOUND.",
        who
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Users" }))
