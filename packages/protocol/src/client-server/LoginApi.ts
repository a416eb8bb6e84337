/**
 * Logging in, renewing an access token, and tokens that log another client in.
 *
 * Source: "Login", "Refreshing access tokens" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, AnyPayload, body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { ServerName, UserId } from "../Identifiers.ts"
import { JsonObject } from "../Json.ts"
import { interactive, OptionalAuth } from "./Auth.ts"

/** The ID of a device: up to 255 characters of Unicode. */
export const DeviceId = boundedText(255)
/** The display name of a device. */
export const DeviceName = boundedText(255)
/** Longer secrets are refused: hashing takes time by their length. */
export const Password = Schema.String.check(Schema.isMaxLength(512))

/** The device of a login. A key that is null counts as absent. */
export const deviceFields = {
  device_id: Schema.optionalKey(Schema.NullOr(DeviceId)),
  initial_device_display_name: Schema.optionalKey(Schema.NullOr(DeviceName)),
  refresh_token: Schema.optionalKey(
    Schema.NullOr(Schema.Boolean).annotate({ description: "Whether the client can renew its access token" })
  )
}

/** The body of a login. */
export const Login = Schema.Struct({
  type: Schema.String,
  identifier: Schema.optionalKey(AnyPayload.annotate({ description: "m.id.user, m.id.thirdparty or m.id.phone" })),
  user: Schema.optionalKey(Schema.NullOr(Schema.String)),
  medium: Schema.optionalKey(Schema.NullOr(Schema.String)),
  address: Schema.optionalKey(Schema.NullOr(Schema.String)),
  password: Schema.optionalKey(Password),
  token: Schema.optionalKey(Schema.String),
  ...deviceFields
}).annotate({ identifier: "Login" })
export type Login = typeof Login.Type

/** The answer to a login. */
export const LoggedIn = body(
  Schema.Struct({
    user_id: UserId,
    access_token: Schema.String,
    device_id: Schema.String,
    home_server: ServerName,
    refresh_token: Schema.optionalKey(Schema.String),
    expires_in_ms: Schema.optionalKey(Schema.Int),
    well_known: Schema.optionalKey(JsonObject)
  }).annotate({ identifier: "LoggedIn" })
)
export type LoggedIn = typeof LoggedIn.Type

const LoginFlow = Schema.Struct({
  type: Schema.String,
  get_login_token: Schema.optionalKey(Schema.Boolean),
  oauth_aware_preferred: Schema.optionalKey(Schema.Boolean),
  "org.matrix.msc3824.delegated_oidc_compatibility": Schema.optionalKey(Schema.Boolean),
  identity_providers: Schema.optionalKey(
    Schema.Array(
      Schema.Struct({
        id: Schema.String,
        name: Schema.String,
        icon: Schema.optionalKey(Schema.String),
        brand: Schema.optionalKey(Schema.String)
      })
    )
  )
})
/** The login types of the server. */
export const LoginTypes = body(Schema.Struct({ flows: Schema.Array(LoginFlow) }).annotate({ identifier: "LoginTypes" }))

/** The tokens that replace earlier ones. */
export const Refreshed = body(
  Schema.Struct({
    access_token: Schema.String,
    refresh_token: Schema.optionalKey(Schema.String),
    expires_in_ms: Schema.optionalKey(Schema.Int)
  }).annotate({ identifier: "Refreshed" })
)

/** A token by which another client of the user logs in, once. */
export const LoginToken = body(
  Schema.Struct({ login_token: Schema.String, expires_in_ms: Schema.Int }).annotate({ identifier: "LoginToken" })
)

export class LoginApi extends HttpApiGroup.make("clientServer.login")
  .add(
    HttpApiEndpoint.get("types", "/v3/login", { success: LoginTypes }).annotateMerge(
      documented({ summary: "The login types", who: "anyone" })
    ),
    HttpApiEndpoint.post("login", "/v3/login", { payload: Login, success: LoggedIn }).annotateMerge(
      documented({
        summary: "Log in",
        text:
          "By `m.login.password` or `m.login.token`. A known `device_id` is logged in again, and its former access " +
          "token ends. Errors: M_FORBIDDEN, M_USER_DEACTIVATED, M_LIMIT_EXCEEDED, M_UNKNOWN for another type.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.post("refresh", "/v3/refresh", {
      payload: Schema.Struct({ refresh_token: Schema.String }),
      success: Refreshed
    }).annotateMerge(
      documented({
        summary: "Renew an access token",
        text: "The old tokens end when one of the new ones is used. Errors: M_UNKNOWN_TOKEN.",
        who: "clients that have the refresh token"
      })
    ),
    HttpApiEndpoint.post("getToken", "/v1/login/get_token", {
      payload: [Schema.Struct({ auth: OptionalAuth }), Absent],
      success: LoginToken
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "A token by which another client logs in",
          text: `Good for one login within two minutes. ${interactive}`,
          who: "the user"
        })
      )
  )
  .annotateMerge(OpenApi.annotations({ title: "Login" })) {}
