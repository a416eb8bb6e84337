/** The rooms of Synapse's administration API: reading, blocking, shutting down, and removing history. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText, RoomIdOrAlias } from "../api/Parameters.ts"
import { RoomEventFilter } from "../client-server/Filter.ts"
import { jsonQuery } from "../client-server/RoomsApi.ts"
import { EventId, UserId } from "../Identifiers.ts"
import { nullable } from "../Json.ts"
import { anyBody, Count, Flag, ofRoom, page, prefix, Text, Time, who } from "./SynapseParameters.ts"

const Shutdown = Schema.Struct({
  block: Schema.optionalKey(Schema.Boolean),
  purge: Schema.optionalKey(Schema.Boolean),
  force_purge: Schema.optionalKey(Schema.Boolean),
  new_room_user_id: nullable(UserId),
  room_name: nullable(boundedText(255)),
  message: nullable(boundedText(4_096))
})

/** Options for shutting down a room. By default it is purged, and not blocked. */
export type ShutdownRequest = typeof Shutdown.Type

const HistoryPurge = Schema.Struct({
  delete_local_events: Schema.optionalKey(Schema.Boolean),
  purge_up_to_event_id: nullable(EventId),
  purge_up_to_ts: nullable(Time)
})

/** The position up to which history is removed. */
export type HistoryPurgeRequest = typeof HistoryPurge.Type

const reading = "As members receive it, without being one, whatever the history visibility. Errors: M_NOT_FOUND."

export const rooms = HttpApiGroup.make("synapseAdmin.rooms")
  .add(
    HttpApiEndpoint.get("list", `${prefix}/v1/rooms`, {
      query: {
        ...page,
        order_by: Schema.optionalKey(Text),
        search_term: Schema.optionalKey(Text),
        public_rooms: Schema.optionalKey(Flag),
        empty_rooms: Schema.optionalKey(Flag)
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
    HttpApiEndpoint.get("hierarchy", `${prefix}/v1/rooms/:roomId/hierarchy`, {
      params: ofRoom,
      query: {
        from: Schema.optionalKey(Text),
        limit: page.limit,
        max_depth: Schema.optionalKey(Count),
        suggested_only: Schema.optionalKey(Flag)
      },
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "The rooms of a space",
        text: "All that this server has, private ones too. Others are left out. Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.get("messages", `${prefix}/v1/rooms/:roomId/messages`, {
      params: ofRoom,
      query: {
        dir: page.dir,
        from: Schema.optionalKey(Text),
        to: Schema.optionalKey(Text),
        limit: page.limit,
        filter: Schema.optionalKey(jsonQuery(RoomEventFilter))
      },
      success: AnyObject
    }).annotateMerge(documented({ summary: "A page of the timeline of a room", text: reading, who })),
    HttpApiEndpoint.get("context", `${prefix}/v1/rooms/:roomId/context/:eventId`, {
      params: { ...ofRoom, eventId: EventId },
      query: { limit: page.limit, filter: Schema.optionalKey(jsonQuery(RoomEventFilter)) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "An event of a room, with its context", text: reading, who })),
    HttpApiEndpoint.get("event", `${prefix}/v1/fetch_event/:eventId`, {
      params: { eventId: EventId },
      success: AnyObject
    }).annotateMerge(documented({ summary: "An event of any room", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("eventAt", `${prefix}/v1/rooms/:roomId/timestamp_to_event`, {
      params: ofRoom,
      query: { ts: Count, dir: page.dir },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "The event of a room nearest to a time", text: "Errors: M_NOT_FOUND.", who })
    ),
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
        summary: "Block or unblock a room",
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
      query: page,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "The status of the removals of a room",
        text: "The newest first, 1,000 unless `limit` is given. Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.get("deletion", `${prefix}/v2/rooms/delete_status/:deleteId`, {
      params: { deleteId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The status of a removal", text: "Errors: M_NOT_FOUND.", who })),
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
      documented({ summary: "Remove the events before an event", text: "State stays. Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.get("purgeStatus", `${prefix}/v1/purge_history_status/:purgeId`, {
      params: { purgeId: Text },
      success: AnyObject
    }).annotateMerge(documented({ summary: "The status of a removal of history", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("makeRoomAdmin", `${prefix}/v1/rooms/:roomId/make_room_admin`, {
      params: { roomId: RoomIdOrAlias },
      payload: [Schema.Struct({ user_id: Schema.optionalKey(UserId) }), Absent],
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Give a user the highest power level that a user of this server has in a room",
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
      documented({
        summary: "Media that events of a room name",
        text: "Not of encrypted events. Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.post("quarantineMedia", `${prefix}/v1/room/:roomId/media/quarantine`, {
      params: ofRoom,
      payload: anyBody,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Quarantine the media of a room", text: "Errors: M_NOT_FOUND.", who }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Rooms" }))
