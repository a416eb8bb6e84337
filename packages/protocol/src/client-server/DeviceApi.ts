/**
 * The devices of a user, and the end of the account.
 *
 * Source: "Device Management" and "Account management" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { UserId } from "../Identifiers.ts"
import { interactive, OptionalAuth } from "./Auth.ts"
import { DeviceId, DeviceName } from "./LoginApi.ts"

const DeviceFields = Schema.Struct({
  device_id: Schema.String,
  user_id: UserId,
  display_name: Schema.optionalKey(Schema.String),
  last_seen_ip: Schema.optionalKey(Schema.String),
  last_seen_ts: Schema.Int.annotate({ description: "Milliseconds since 1970" })
}).annotate({ identifier: "ClientDevice" })

/** A device of the user. */
export const Device = body(DeviceFields)
export type Device = typeof Device.Type

const themselves = "the user"

export class DeviceApi extends HttpApiGroup.make("clientServer.devices")
  .add(
    HttpApiEndpoint.get("list", "/v3/devices", {
      success: body(Schema.Struct({ devices: Schema.Array(DeviceFields) }))
    }).annotateMerge(documented({ summary: "The devices", who: themselves })),
    HttpApiEndpoint.get("get", "/v3/devices/:deviceId", {
      params: { deviceId: DeviceId },
      success: Device
    }).annotateMerge(documented({ summary: "One device", text: "Errors: M_NOT_FOUND.", who: themselves })),
    HttpApiEndpoint.put("rename", "/v3/devices/:deviceId", {
      params: { deviceId: DeviceId },
      payload: Schema.Struct({ display_name: Schema.optionalKey(Schema.NullOr(DeviceName)) }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Rename a device",
        text: "The status is 201 where an application service creates the device. Errors: M_NOT_FOUND.",
        who: themselves
      })
    ),
    HttpApiEndpoint.delete("delete", "/v3/devices/:deviceId", {
      params: { deviceId: DeviceId },
      payload: [Schema.Struct({ auth: OptionalAuth }), Absent],
      success: Done
    }).annotateMerge(documented({ summary: "Log out a device", text: interactive, who: themselves })),
    HttpApiEndpoint.post("deleteMany", "/v3/delete_devices", {
      payload: Schema.Struct({
        devices: Schema.Array(DeviceId).check(Schema.isMaxLength(10_000)),
        auth: OptionalAuth
      }),
      success: Done
    }).annotateMerge(documented({ summary: "Log out devices", text: interactive, who: themselves })),
    HttpApiEndpoint.post("deactivate", "/v3/account/deactivate", {
      payload: [
        Schema.Struct({
          auth: OptionalAuth,
          id_server: Schema.optionalKey(Schema.String),
          erase: Schema.optionalKey(Schema.Boolean)
        }),
        Absent
      ],
      success: body(Schema.Struct({ id_server_unbind_result: Schema.Literals(["success", "no-support"]) }))
    }).annotateMerge(documented({ summary: "Deactivate the account", text: interactive, who: themselves }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Devices and account" })) {}
