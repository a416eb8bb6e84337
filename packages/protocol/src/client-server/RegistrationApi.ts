/**
 * Registration.
 *
 * Source: "Account registration" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Absent, body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { ServerName, UserId } from "../Identifiers.ts"
import { interactive, OptionalAuth } from "./Auth.ts"
import { deviceFields, Password } from "./LoginApi.ts"

const Username = boundedText(255)

/** The body of a registration. */
export const Register = Schema.Struct({
  auth: OptionalAuth,
  type: Schema.optionalKey(
    Schema.NullOr(Schema.String).annotate({
      description: "`m.login.application_service` for an application service, which sends its `as_token`"
    })
  ),
  username: Schema.optionalKey(Schema.NullOr(Username)),
  password: Schema.optionalKey(Schema.NullOr(Password)),
  guest_access_token: Schema.optionalKey(
    Schema.NullOr(boundedText(255)).annotate({
      description: "Of the guest whose account it becomes; `username` is theirs"
    })
  ),
  inhibit_login: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  ...deviceFields
}).annotate({ identifier: "Register" })
export type Register = typeof Register.Type

/** A new account; without tokens where the login was inhibited. */
export const Registered = body(
  Schema.Struct({
    user_id: UserId,
    home_server: Schema.optionalKey(ServerName),
    access_token: Schema.optionalKey(Schema.String),
    device_id: Schema.optionalKey(Schema.String),
    refresh_token: Schema.optionalKey(Schema.String),
    expires_in_ms: Schema.optionalKey(Schema.Int)
  }).annotate({ identifier: "Registered" })
)
export type Registered = typeof Registered.Type

export class RegistrationApi extends HttpApiGroup.make("clientServer.registration")
  .add(
    HttpApiEndpoint.post("register", "/v3/register", {
      query: { kind: Schema.optional(Schema.Literals(["user", "guest"])) },
      payload: [Register, Absent],
      success: Registered
    }).annotateMerge(
      documented({
        summary: "Register",
        text: `${interactive} Errors: M_USER_IN_USE, M_INVALID_USERNAME, M_EXCLUSIVE, M_FORBIDDEN where registration is closed.`,
        who: "anyone, where registration is open; guests where the server has them"
      })
    ),
    HttpApiEndpoint.get("available", "/v3/register/available", {
      query: { username: Username },
      success: body(Schema.Struct({ available: Schema.Boolean }))
    }).annotateMerge(
      documented({
        summary: "Can a user name be registered?",
        text: "Errors: M_USER_IN_USE, M_INVALID_USERNAME, M_EXCLUSIVE.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("tokenValidity", "/v1/register/m.login.registration_token/validity", {
      query: { token: boundedText(255) },
      success: body(Schema.Struct({ valid: Schema.Boolean }))
    }).annotateMerge(documented({ summary: "Is a registration token valid?", who: "anyone" }))
  )
  .annotateMerge(OpenApi.annotations({ title: "Registration" })) {}
