/**
 * Dehydrated devices, which take messages with keys while the user is logged in nowhere.
 *
 * Source: MSC3814.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, ReadOnly } from "../api/Authentication.ts"
import { Absent, AnyPayload, body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { JsonObject, nullable } from "../Json.ts"
import { QueryToken, Token } from "./RoomsApi.ts"
import { SimpleEvent } from "./SyncAnswer.ts"

const path = "/unstable/org.matrix.msc3814.v1/dehydrated_device"
const DeviceId = boundedText(255)
const Messages = body(
  Schema.Struct({ events: Schema.Array(SimpleEvent), next_batch: Schema.optionalKey(Schema.String) })
)
const Named = body(Schema.Struct({ device_id: Schema.String }))
const reads = { text: "Errors: M_FORBIDDEN for another device.", who: "the user" }

export class DehydratedDeviceApi extends HttpApiGroup.make("clientServer.dehydratedDevice")
  .add(
    HttpApiEndpoint.put("put", path, {
      payload: Schema.Struct({
        device_id: DeviceId,
        device_data: AnyPayload,
        initial_device_display_name: nullable(boundedText(255)),
        device_keys: AnyPayload,
        one_time_keys: nullable(AnyPayload),
        fallback_keys: nullable(AnyPayload)
      }).annotate({ identifier: "DehydratedDevice" }),
      success: Named
    }).annotateMerge(
      documented({ summary: "Set the dehydrated device", text: "Replaces the former one.", who: "the user" })
    ),
    HttpApiEndpoint.get("get", path, {
      success: body(Schema.Struct({ device_id: Schema.String, device_data: JsonObject }))
    }).annotateMerge(documented({ summary: "The dehydrated device", text: "Errors: M_NOT_FOUND.", who: "the user" })),
    HttpApiEndpoint.delete("remove", path, { success: Named }).annotateMerge(
      documented({ summary: "Delete the dehydrated device", text: "Errors: M_NOT_FOUND.", who: "the user" })
    ),
    HttpApiEndpoint.get("events", `${path}/:deviceId/events`, {
      params: { deviceId: DeviceId },
      query: { from: QueryToken },
      success: Messages
    }).annotateMerge(documented({ summary: "The messages to the dehydrated device", ...reads })),
    HttpApiEndpoint.post("eventsByBody", `${path}/:deviceId/events`, {
      params: { deviceId: DeviceId },
      payload: [Schema.Struct({ next_batch: nullable(Token) }), Absent],
      success: Messages
    })
      .annotate(ReadOnly, true)
      .annotateMerge(documented({ summary: "The messages to the dehydrated device, older form", ...reads }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Dehydrated devices" })) {}
