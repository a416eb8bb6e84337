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
import { boundedText, RoomIdOrAlias } from "../api/Parameters.ts"
import { ClientErrors } from "../client-server/ClientErrors.ts"
import { EventId, RoomId, ServerName, UserId } from "../Identifiers.ts"
import { JsonObject } from "../Json.ts"

const prefix = "/_synapse/admin"
const who = "administrators"

const Text = boundedText(512)
const Count = Schema.NumberFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 1e15 }))
const Flag = Schema.Literals(["true", "false"])
const Time = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e15 }))
const optional = Schema.optionalKey
/** A field that clients also send as null, which means the same as leaving it out, or taking the value away. */
const nullable = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const page = { from: optional(Count), limit: optional(Count), dir: optional(Schema.Literals(["f", "b"])) }
const ofUser = { userId: UserId }
const ofRoom = { roomId: RoomId }
const ofMedia = { serverName: ServerName, mediaId: boundedText(255) }
/** Some endpoints are called without a body, or with one that is empty. */
const anyBody = [Schema.Record(Schema.String, Schema.Unknown), Absent] as const

const users = HttpApiGroup.make("synapseAdmin.users")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/v2/users`, {
      query: {
        ...page,
        user_id: optional(Text),
        name: optional(Text),
        guests: optional(Flag),
        admins: optional(Flag),
        deactivated: optional(Flag),
        locked: optional(Flag),
        order_by: optional(Text)
      },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Accounts", who })),
    HttpApiEndpoint.get("get", `${prefix}/v2/users/:userId`, { params: ofUser, success: AnyObject }).annotateMerge(
      documented({ summary: "An account", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.put("put", `${prefix}/v2/users/:userId`, {
      params: ofUser,
      payload: Schema.Struct({
        password: nullable(Text),
        logout_devices: optional(Schema.Boolean),
        displayname: nullable(Text),
        avatar_url: nullable(Text),
        threepids: optional(
          Schema.Array(Schema.Struct({ medium: Schema.Literals(["email", "msisdn"]), address: Text }))
        ),
        external_ids: optional(Schema.Array(Schema.Struct({ auth_provider: Text, external_id: Text }))),
        admin: optional(Schema.Boolean),
        deactivated: optional(Schema.Boolean),
        locked: optional(Schema.Boolean),
        approved: optional(Schema.Boolean),
        user_type: nullable(Text)
      }),
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Create or change an account",
        text: "Errors: M_INVALID_USERNAME, M_BAD_JSON, and M_INVALID_PARAM for what cannot be changed.",
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
    }).annotateMerge(documented({ summary: "End logins", who })),
    HttpApiEndpoint.get("device", `${prefix}/v2/users/:userId/devices/:deviceId`, {
      params: { ...ofUser, deviceId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "A login", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.put("renameDevice", `${prefix}/v2/users/:userId/devices/:deviceId`, {
      params: { ...ofUser, deviceId: Text },
      payload: Schema.Struct({ display_name: nullable(Text) }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Rename a device", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.delete("deleteDevice", `${prefix}/v2/users/:userId/devices/:deviceId`, {
      params: { ...ofUser, deviceId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "End a login", who })),
    HttpApiEndpoint.get("joinedRooms", `${prefix}/v1/users/:userId/joined_rooms`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Rooms that a user is in", who })),
    HttpApiEndpoint.get("pushers", `${prefix}/v1/users/:userId/pushers`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Pushers of a user", who })),
    HttpApiEndpoint.post("deactivate", `${prefix}/v1/deactivate/:userId`, {
      params: ofUser,
      payload: [Schema.Struct({ erase: optional(Schema.Boolean) }), Absent],
      success: AnyObject
    }).annotateMerge(documented({ summary: "Deactivate an account", who })),
    HttpApiEndpoint.post("resetPassword", `${prefix}/v1/reset_password/:userId`, {
      params: ofUser,
      payload: Schema.Struct({ new_password: Text, logout_devices: optional(Schema.Boolean) }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Set a password", text: "Errors: M_BAD_JSON.", who })),
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
    }).annotateMerge(documented({ summary: "Suspend an account, or end that", who })),
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
    }).annotateMerge(documented({ summary: "Whose an address is", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("bySubject", `${prefix}/v1/auth_providers/:provider/users/:externalId`, {
      params: { provider: Text, externalId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Whose an account elsewhere is", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("media", `${prefix}/v1/users/:userId/media`, {
      params: ofUser,
      query: { ...page, order_by: optional(Text) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The uploads of a user", who })),
    HttpApiEndpoint.delete("deleteMedia", `${prefix}/v1/users/:userId/media`, {
      params: ofUser,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove what a user has uploaded", who })),
    HttpApiEndpoint.post("joinRoom", `${prefix}/v1/join/:roomIdOrAlias`, {
      params: { roomIdOrAlias: RoomIdOrAlias },
      payload: Schema.Struct({ user_id: UserId }),
      success: AnyObject
    }).annotateMerge(documented({ summary: "Join a user of this server to a room", who }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Users" }))

const Shutdown = Schema.Struct({
  block: optional(Schema.Boolean),
  purge: optional(Schema.Boolean),
  force_purge: optional(Schema.Boolean),
  new_room_user_id: nullable(UserId),
  room_name: nullable(boundedText(255)),
  message: nullable(boundedText(4_096))
})

/** How a room is shut down. By default it is purged, and not blocked. */
export type ShutdownRequest = typeof Shutdown.Type

const HistoryPurge = Schema.Struct({
  delete_local_events: optional(Schema.Boolean),
  purge_up_to_event_id: nullable(EventId),
  purge_up_to_ts: nullable(Time)
})

/** Up to where history is removed. */
export type HistoryPurgeRequest = typeof HistoryPurge.Type

const rooms = HttpApiGroup.make("synapseAdmin.rooms")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/v1/rooms`, {
      query: {
        ...page,
        order_by: optional(Text),
        search_term: optional(Text),
        public_rooms: optional(Flag),
        empty_rooms: optional(Flag)
      },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Rooms", who })),
    HttpApiEndpoint.get("get", `${prefix}/v1/rooms/:roomId`, { params: ofRoom, success: AnyObject }).annotateMerge(
      documented({ summary: "A room", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.get("members", `${prefix}/v1/rooms/:roomId/members`, {
      params: ofRoom,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Joined members", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("state", `${prefix}/v1/rooms/:roomId/state`, {
      params: ofRoom,
      success: AnyObject
    }).annotateMerge(documented({ summary: "The state of a room", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("block", `${prefix}/v1/rooms/:roomId/block`, {
      params: ofRoom,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Is a room blocked, and by whom?", who })),
    HttpApiEndpoint.put("setBlock", `${prefix}/v1/rooms/:roomId/block`, {
      params: ofRoom,
      payload: Schema.Struct({ block: Schema.Boolean }),
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Block a room, or end that",
        text: "No user of this server can enter a blocked room.",
        who
      })
    ),
    HttpApiEndpoint.delete("deleteNow", `${prefix}/v1/rooms/:roomId`, {
      params: ofRoom,
      payload: [Shutdown, Absent],
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Shut down a room, and wait for the end", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.delete("delete", `${prefix}/v2/rooms/:roomId`, {
      params: ofRoom,
      payload: [Shutdown, Absent],
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Shut down a room",
        text: "Users of this server leave, its aliases go; `block` and `purge` as wanted. Goes on after a restart.",
        who
      })
    ),
    HttpApiEndpoint.get("deletionsOfRoom", `${prefix}/v2/rooms/:roomId/delete_status`, {
      params: ofRoom,
      success: AnyObject
    }).annotateMerge(documented({ summary: "How the removals of a room stand", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("deletion", `${prefix}/v2/rooms/delete_status/:deleteId`, {
      params: { deleteId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "How a removal stands", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("purgeHistory", `${prefix}/v1/purge_history/:roomId`, {
      params: ofRoom,
      payload: HistoryPurge,
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Remove old events of a room", text: "State stays. Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.post("purgeHistoryBefore", `${prefix}/v1/purge_history/:roomId/:eventId`, {
      params: { ...ofRoom, eventId: EventId },
      payload: [HistoryPurge, Absent],
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Remove the events before one", text: "State stays. Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.get("purgeStatus", `${prefix}/v1/purge_history_status/:purgeId`, {
      params: { purgeId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "How the removal of history stands", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("makeRoomAdmin", `${prefix}/v1/rooms/:roomId/make_room_admin`, {
      params: { roomId: RoomIdOrAlias },
      payload: [Schema.Struct({ user_id: optional(UserId) }), Absent],
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Give a user, or oneself, the most power that somebody of this server has in a room",
        text: "Errors: M_NOT_FOUND, M_UNKNOWN where nobody of this server may change power levels.",
        who
      })
    ),
    HttpApiEndpoint.get("extremities", `${prefix}/v1/rooms/:roomId/forward_extremities`, {
      params: { roomId: RoomIdOrAlias },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The forward extremities of a room", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("media", `${prefix}/v1/room/:roomId/media`, {
      params: ofRoom,
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Content that a room names", text: "Not of encrypted events. Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.post("quarantineMedia", `${prefix}/v1/room/:roomId/media/quarantine`, {
      params: ofRoom,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Serve no content of a room any more", text: "Errors: M_NOT_FOUND.", who }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Rooms" }))

const media = HttpApiGroup.make("synapseAdmin.media")
  .add(
    HttpApiEndpoint.get("get", `${prefix}/v1/media/:serverName/:mediaId`, {
      params: ofMedia,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Information about content", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("quarantine", `${prefix}/v1/media/quarantine/:serverName/:mediaId`, {
      params: ofMedia,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Serve content no more", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("release", `${prefix}/v1/media/unquarantine/:serverName/:mediaId`, {
      params: ofMedia,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Serve content again", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("quarantineOfUser", `${prefix}/v1/user/:userId/media/quarantine`, {
      params: ofUser,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Serve no content of a user any more", who })),
    HttpApiEndpoint.delete("delete", `${prefix}/v1/media/:serverName/:mediaId`, {
      params: ofMedia,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove content", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("deleteOld", `${prefix}/v1/media/delete`, {
      query: { before_ts: Count, size_gt: optional(Count), keep_profiles: optional(Flag) },
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Remove content of this server that was not used since",
        text: "Avatars of users stay.",
        who
      })
    ),
    HttpApiEndpoint.post("purgeRemote", `${prefix}/v1/purge_media_cache`, {
      query: { before_ts: Count },
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Remove content of other servers that was not used since",
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
      query: { valid: optional(Flag) },
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
    }).annotateMerge(documented({ summary: "Withdraw a registration token", text: "Errors: M_NOT_FOUND.", who }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Registration tokens" }))

const NewNotice = Schema.Struct({
  user_id: UserId,
  content: JsonObject,
  type: optional(Text),
  state_key: optional(Text)
})
const noticeErrors = "Errors: M_NOT_FOUND, M_UNKNOWN where the server has no user who sends notices."

const server = HttpApiGroup.make("synapseAdmin.server")
  .add(
    HttpApiEndpoint.get("version", `${prefix}/v1/server_version`, { success: AnyObject }).annotateMerge(
      documented({ summary: "The version of this server", who })
    ),
    HttpApiEndpoint.get("reports", `${prefix}/v1/event_reports`, {
      query: { ...page, user_id: optional(Text), room_id: optional(Text) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The reports of users", who })),
    HttpApiEndpoint.get("report", `${prefix}/v1/event_reports/:reportId`, {
      params: { reportId: Count },
      success: AnyObject
    }).annotateMerge(documented({ summary: "A report, with the event", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.delete("deleteReport", `${prefix}/v1/event_reports/:reportId`, {
      params: { reportId: Count },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Remove a report that is dealt with", text: "Errors: M_NOT_FOUND.", who })),
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
      query: { ...page, search_term: optional(Text), order_by: optional(Text) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "How much users have uploaded", who }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "The server" }))

const ofDestination = { destination: ServerName }

const federation = HttpApiGroup.make("synapseAdmin.federation")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/v1/federation/destinations`, {
      query: { ...page, destination: optional(Text), order_by: optional(Text) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Other home servers, and how they are doing", who })),
    HttpApiEndpoint.get("get", `${prefix}/v1/federation/destinations/:destination`, {
      params: ofDestination,
      success: AnyObject
    }).annotateMerge(documented({ summary: "One of them", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("rooms", `${prefix}/v1/federation/destinations/:destination/rooms`, {
      params: ofDestination,
      query: page,
      success: AnyObject
    }).annotateMerge(documented({ summary: "The rooms that it takes part in", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("reset", `${prefix}/v1/federation/destinations/:destination/reset_connection`, {
      params: ofDestination,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "Try it again now, whenever it failed last", text: "Errors: M_NOT_FOUND.", who })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Other home servers" }))

export const SynapseAdminApi = HttpApi.make("SynapseAdminApi")
  .add(users, rooms, media, tokens, server, federation)
  .middleware(ClientErrors)
  .annotateMerge(OpenApi.annotations({ title: "Greenroom: administration, as Synapse has it", version: "v2" }))
export type SynapseAdminApi = typeof SynapseAdminApi
