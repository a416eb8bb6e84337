/**
 * Data that users store on the server: account data, tags, filters, push rules, and read receipts.
 *
 * Source: "Client Config", "Room Tagging", "Filtering", "Push Rules: API" and "Receipts" of the client-server
 * specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, AnyObject, AnyPayload, body, Done, listBody, OptionalObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText, EventType } from "../api/Parameters.ts"
import { EventId, RoomId, UserId } from "../Identifiers.ts"
import { JsonObject } from "../Json.ts"
import { Filter } from "./Filter.ts"

const self = { userId: UserId }
const inRoom = { ...self, roomId: RoomId }
const own = "the user, for themselves"
const Tags = Schema.Record(Schema.String, Schema.Struct({ order: Schema.optionalKey(Schema.Number) }))
export type Tags = typeof Tags.Type

export class AccountDataApi extends HttpApiGroup.make("clientServer.accountData")
  .add(
    HttpApiEndpoint.put("set", "/v3/user/:userId/account_data/:type", {
      params: { ...self, type: EventType },
      payload: AnyPayload,
      success: Done
    }).annotateMerge(
      documented({ summary: "Set account data", text: "Errors: M_BAD_JSON for server types.", who: own })
    ),
    HttpApiEndpoint.get("get", "/v3/user/:userId/account_data/:type", {
      params: { ...self, type: EventType },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Account data", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.delete("remove", "/v3/user/:userId/account_data/:type", {
      params: { ...self, type: EventType },
      success: Done
    }).annotateMerge(
      documented({
        summary: "Delete account data",
        text: "Of MSC3391. Other devices receive an empty object. Errors: M_BAD_JSON for server types.",
        who: own
      })
    ),
    HttpApiEndpoint.put("setInRoom", "/v3/user/:userId/rooms/:roomId/account_data/:type", {
      params: { ...inRoom, type: EventType },
      payload: AnyPayload,
      success: Done
    }).annotateMerge(documented({ summary: "Set account data of a room", who: own })),
    HttpApiEndpoint.get("getInRoom", "/v3/user/:userId/rooms/:roomId/account_data/:type", {
      params: { ...inRoom, type: EventType },
      success: AnyObject
    }).annotateMerge(documented({ summary: "Account data of a room", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.delete("removeInRoom", "/v3/user/:userId/rooms/:roomId/account_data/:type", {
      params: { ...inRoom, type: EventType },
      success: Done
    }).annotateMerge(documented({ summary: "Delete account data of a room", text: "Of MSC3391.", who: own })),
    HttpApiEndpoint.get("tags", "/v3/user/:userId/rooms/:roomId/tags", {
      params: inRoom,
      success: body(Schema.Struct({ tags: Tags }))
    }).annotateMerge(documented({ summary: "The tags of a room", who: own })),
    HttpApiEndpoint.put("setTag", "/v3/user/:userId/rooms/:roomId/tags/:tag", {
      params: { ...inRoom, tag: EventType },
      payload: OptionalObject,
      success: Done
    }).annotateMerge(documented({ summary: "Set a tag of a room", who: own })),
    HttpApiEndpoint.delete("removeTag", "/v3/user/:userId/rooms/:roomId/tags/:tag", {
      params: { ...inRoom, tag: EventType },
      success: Done
    }).annotateMerge(documented({ summary: "Remove a tag of a room", who: own })),
    HttpApiEndpoint.post("addFilter", "/v3/user/:userId/filter", {
      params: self,
      payload: Filter,
      success: body(Schema.Struct({ filter_id: Schema.String }))
    }).annotateMerge(documented({ summary: "Define a filter", who: own })),
    HttpApiEndpoint.get("filter", "/v3/user/:userId/filter/:filterId", {
      params: { ...self, filterId: boundedText(64) },
      success: body(Filter)
    }).annotateMerge(documented({ summary: "A filter", text: "Errors: M_NOT_FOUND.", who: own }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Account data, tags, filters" })) {}

const rule = { kind: boundedText(64), ruleId: boundedText(255) }
const Actions = Schema.Array(Schema.Union([Schema.String, AnyPayload])).check(Schema.isMaxLength(100))

const PushRule = Schema.Struct({
  rule_id: Schema.String,
  default: Schema.Boolean,
  enabled: Schema.Boolean,
  actions: Schema.Array(Schema.Union([Schema.String, JsonObject])),
  conditions: Schema.optionalKey(Schema.Array(JsonObject)),
  pattern: Schema.optionalKey(Schema.String)
}).annotate({ identifier: "PushRule" })
const rulesOfKind = Schema.optionalKey(Schema.Array(PushRule))
const PushRuleset = Schema.Struct({
  override: rulesOfKind,
  content: rulesOfKind,
  room: rulesOfKind,
  sender: rulesOfKind,
  underride: rulesOfKind
}).annotate({ identifier: "PushRuleset" })

export class PushRulesApi extends HttpApiGroup.make("clientServer.pushRules")
  .add(
    HttpApiEndpoint.get("all", "/v3/pushrules", {
      success: body(Schema.Struct({ global: PushRuleset }))
    }).annotateMerge(documented({ summary: "All push rules", who: own })),
    HttpApiEndpoint.get("global", "/v3/pushrules/global", { success: body(PushRuleset) }).annotateMerge(
      documented({ summary: "The global push rules", who: own })
    ),
    HttpApiEndpoint.get("ofKind", "/v3/pushrules/global/:kind", {
      params: { kind: rule.kind },
      success: listBody(Schema.Array(PushRule))
    }).annotateMerge(
      documented({
        summary: "The push rules of one kind",
        text: "Not in the specification; older clients use it. Errors: M_NOT_FOUND.",
        who: own
      })
    ),
    HttpApiEndpoint.get("get", "/v3/pushrules/global/:kind/:ruleId", {
      params: rule,
      success: body(PushRule)
    }).annotateMerge(documented({ summary: "One push rule", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.put("put", "/v3/pushrules/global/:kind/:ruleId", {
      params: rule,
      query: { before: Schema.optional(boundedText(255)), after: Schema.optional(boundedText(255)) },
      payload: Schema.Struct({
        actions: Actions,
        conditions: Schema.optionalKey(Schema.Array(AnyPayload).check(Schema.isMaxLength(100))),
        pattern: Schema.optionalKey(boundedText(1_024))
      }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Make or replace a push rule",
        text: "A new rule has the highest priority of its kind, unless `before` or `after` gives its position.",
        who: own
      })
    ),
    HttpApiEndpoint.delete("delete", "/v3/pushrules/global/:kind/:ruleId", {
      params: rule,
      success: Done
    }).annotateMerge(documented({ summary: "Delete a push rule", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.get("enabled", "/v3/pushrules/global/:kind/:ruleId/enabled", {
      params: rule,
      success: body(Schema.Struct({ enabled: Schema.Boolean }))
    }).annotateMerge(documented({ summary: "Is a push rule on?", who: own })),
    HttpApiEndpoint.put("setEnabled", "/v3/pushrules/global/:kind/:ruleId/enabled", {
      params: rule,
      payload: Schema.Struct({ enabled: Schema.Boolean }),
      success: Done
    }).annotateMerge(documented({ summary: "Turn a push rule on or off", who: own })),
    HttpApiEndpoint.get("actions", "/v3/pushrules/global/:kind/:ruleId/actions", {
      params: rule,
      success: body(Schema.Struct({ actions: Schema.Array(Schema.Unknown) }))
    }).annotateMerge(documented({ summary: "The actions of a push rule", who: own })),
    HttpApiEndpoint.put("setActions", "/v3/pushrules/global/:kind/:ruleId/actions", {
      params: rule,
      payload: Schema.Struct({ actions: Actions }),
      success: Done
    }).annotateMerge(documented({ summary: "Change the actions of a push rule", who: own }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Push rules" })) {}

const Marker = Schema.optionalKey(Schema.NullOr(EventId))

export class ReceiptsApi extends HttpApiGroup.make("clientServer.receipts")
  .add(
    HttpApiEndpoint.post("receipt", "/v3/rooms/:roomId/receipt/:receiptType/:eventId", {
      params: {
        roomId: RoomId,
        receiptType: Schema.Literals(["m.read", "m.read.private", "m.fully_read"]),
        eventId: EventId
      },
      payload: OptionalObject,
      success: Done
    }).annotateMerge(
      documented({
        summary: "Set a receipt",
        text: "`thread_id` in the body names the thread. Errors: M_INVALID_PARAM, M_NOT_FOUND.",
        who: "members"
      })
    ),
    HttpApiEndpoint.post("readMarkers", "/v3/rooms/:roomId/read_markers", {
      params: { roomId: RoomId },
      payload: [Schema.Struct({ "m.fully_read": Marker, "m.read": Marker, "m.read.private": Marker }), Absent],
      success: Done
    }).annotateMerge(documented({ summary: "Set read markers", who: "members" }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Receipts" })) {}
