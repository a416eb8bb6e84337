/**
 * Pushers, and the list of a user's notifications.
 *
 * Source: "Push notifications" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { HtmlPage } from "../api/HtmlPage.ts"
import { boundedText } from "../api/Parameters.ts"
import { RoomId } from "../Identifiers.ts"
import { JsonObject } from "../Json.ts"
import { ClientEventSchema } from "./ClientEventSchema.ts"
import { Count, QueryToken } from "./RoomsApi.ts"

const own = "the user, for themselves"
const Text = Schema.optionalKey(Schema.NullOr(Schema.String.check(Schema.isMaxLength(1_024))))

const PusherRequest = Schema.Struct({
  app_id: boundedText(64),
  pushkey: boundedText(512),
  kind: Schema.NullOr(boundedText(64)),
  app_display_name: Text,
  device_display_name: Text,
  profile_tag: Text,
  lang: Text,
  data: Schema.optionalKey(Schema.NullOr(JsonObject)),
  append: Schema.optionalKey(Schema.NullOr(Schema.Boolean))
})

const Pusher = Schema.Struct({
  app_id: Schema.String,
  pushkey: Schema.String,
  kind: Schema.String,
  app_display_name: Schema.optionalKey(Schema.String),
  device_display_name: Schema.optionalKey(Schema.String),
  profile_tag: Schema.optionalKey(Schema.String),
  lang: Schema.optionalKey(Schema.String),
  data: Schema.optionalKey(JsonObject)
}).annotate({ identifier: "Pusher" })

const Notification = Schema.Struct({
  actions: Schema.Array(Schema.Union([Schema.String, JsonObject])),
  event: ClientEventSchema,
  read: Schema.Boolean,
  room_id: RoomId,
  ts: Schema.Int,
  profile_tag: Schema.optionalKey(Schema.NullOr(Schema.String))
}).annotate({ identifier: "Notification" })
const Notifications = body(
  Schema.Struct({ notifications: Schema.Array(Notification), next_token: Schema.optionalKey(Schema.String) })
)

export class PushersApi extends HttpApiGroup.make("clientServer.pushers")
  .add(
    HttpApiEndpoint.get("list", "/v3/pushers", {
      success: body(Schema.Struct({ pushers: Schema.Array(Pusher) }))
    }).annotateMerge(documented({ summary: "The pushers", who: own })),
    HttpApiEndpoint.post("set", "/v3/pushers/set", { payload: PusherRequest, success: Done }).annotateMerge(
      documented({
        summary: "Make, change or remove a pusher",
        text:
          "`data.url` is an HTTPS URL with a public address. The `pushkey` of the kind `email` is an address of the account; " +
          "mails are sent if a mail server is configured. The pusher is deleted with the device that set it. " +
          "Errors: M_MISSING_PARAM, M_INVALID_PARAM, M_THREEPID_NOT_FOUND, M_TOO_LARGE, M_USER_LIMIT_EXCEEDED.",
        who: own
      })
    ),
    HttpApiEndpoint.get("notifications", "/v3/notifications", {
      query: {
        from: QueryToken,
        limit: Schema.optional(Count),
        only: Schema.optional(boundedText(64))
      },
      success: Notifications
    }).annotateMerge(
      documented({ summary: "The notifications of the user", text: "Newest first. Errors: M_INVALID_PARAM.", who: own })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Pushers" })) {}

const linkToken = { token: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(128))) }

/** The path of the links in mails about notifications: one of this server's own. */
export class UnsubscribeApi extends HttpApiGroup.make("clientServer.unsubscribe")
  .add(
    HttpApiEndpoint.get("link", "/_greenroom/unsubscribe", { query: linkToken, success: HtmlPage }).annotateMerge(
      documented({
        summary: "The page of the link in a mail about notifications",
        text: "A page with a button. Opening it changes nothing.",
        who: "anyone with the link"
      })
    ),
    HttpApiEndpoint.post("end", "/_greenroom/unsubscribe", { query: linkToken, success: HtmlPage }).annotateMerge(
      documented({
        summary: "The button of that page, and the one click of mail programs (RFC 8058)",
        who: "anyone with the link"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "End of mails about notifications" })) {}
