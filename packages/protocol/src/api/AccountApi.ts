/**
 * One's own account: its sessions, the password, and other identities to log in with.
 *
 * Source: "Registration and login" and "Identity" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { sessionErrors } from "../identity/IdentityError.ts"
import { Medium } from "../identity/ThirdPartyId.ts"
import { ClientSecret, SessionId } from "../identity/ValidationApi.ts"
import { Authentication } from "./Authentication.ts"
import { body, Done } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { LoginAnswer, LoginStage, maxSecretLength } from "./LoginFlow.ts"
import { boundedText } from "./Parameters.ts"

const DeviceFields = Schema.Struct({
  device_id: Schema.String,
  display_name: Schema.optionalKey(Schema.String),
  last_seen_ts: Schema.Int.annotate({ description: "Milliseconds since 1970" })
}).annotate({ identifier: "Device" })

/** The sessions of the user, the most recently used first. */
export const Devices = body(Schema.Struct({ devices: Schema.Array(DeviceFields) }).annotate({ identifier: "Devices" }))
export type Devices = typeof Devices.Type

const Password = Schema.String.check(Schema.isMaxLength(maxSecretLength))

/** The password, and the one that replaces it. */
export const ChangePassword = Schema.Struct({ old_password: Password, new_password: Password }).annotate({
  identifier: "ChangePassword"
})

const AddressFields = Schema.Struct({
  medium: Medium,
  address: Schema.String,
  validated_at: Schema.Int.annotate({ description: "Milliseconds since 1970" })
}).annotate({ identifier: "BoundAddress" })

const ServiceFields = Schema.Struct({
  provider: Schema.String,
  subject: Schema.String.annotate({ description: "The user's name at the service" })
}).annotate({ identifier: "LinkedService" })

/** The identities of an account beside its password. */
export const Links = body(
  Schema.Struct({
    flows: Schema.Array(Schema.Struct({ type: Schema.String })).annotate({ description: "How to add to it" }),
    threepids: Schema.Array(AddressFields),
    services: Schema.Array(ServiceFields)
  }).annotate({ identifier: "Links" })
)
export type Links = typeof Links.Type

/** An address or a service to take away. */
export const RemoveLink = Schema.Union([
  Schema.Struct({ medium: Medium, address: boundedText(320) }),
  Schema.Struct({ provider: boundedText(255), subject: boundedText(1_024) })
]).annotate({ identifier: "RemoveLink" })

/** The addresses that belong to the account. */
export const ThirdPartyIds = body(
  Schema.Struct({ threepids: Schema.Array(AddressFields) }).annotate({ identifier: "ThirdPartyIds" })
)
export type ThirdPartyIds = typeof ThirdPartyIds.Type

const IdServer = Schema.optionalKey(
  boundedText(255).annotate({
    description: "The host of one of the identity servers that this server trusts; the first of them if absent"
  })
)

/** A session of an identity server that has validated an address. */
export const ThirdPartyIdProof = Schema.Struct({
  sid: SessionId,
  client_secret: ClientSecret,
  id_server: IdServer
}).annotate({ identifier: "ThirdPartyIdProof" })
export type ThirdPartyIdProof = typeof ThirdPartyIdProof.Type

/** An address to add: its proof, as it is or, as later clients have it, in `three_pid_creds`. */
export const AddThirdPartyId = Schema.Union([
  Schema.Struct({ three_pid_creds: ThirdPartyIdProof }),
  ThirdPartyIdProof
]).annotate({ identifier: "AddThirdPartyId" })

/** An address to take away; with a proof, also from the identity server. */
export const RemoveThirdPartyId = Schema.Struct({
  medium: Medium,
  address: boundedText(320),
  sid: Schema.optionalKey(SessionId),
  client_secret: Schema.optionalKey(ClientSecret),
  id_server: IdServer
}).annotate({ identifier: "RemoveThirdPartyId" })
export type RemoveThirdPartyId = typeof RemoveThirdPartyId.Type

const themselves = "the user"

export class AccountApi extends HttpApiGroup.make("account")
  .add(
    HttpApiEndpoint.get("devices", "/devices", { success: Devices }).annotateMerge(
      documented({ summary: "The devices of the user", who: themselves })
    ),
    HttpApiEndpoint.delete("removeDevice", "/devices/:deviceId", {
      params: { deviceId: boundedText(255) },
      success: Done
    }).annotateMerge(
      documented({ summary: "End the login of one device", text: "Errors: M_NOT_FOUND.", who: themselves })
    ),
    HttpApiEndpoint.post("changePassword", "/account/password", {
      payload: ChangePassword,
      success: Done
    }).annotateMerge(
      documented({
        summary: "Change the password",
        text:
          "Ends every other login of the user. Errors: M_FORBIDDEN for a wrong old password, M_LIMIT_EXCEEDED after many attempts, " +
          "M_WEAK_PASSWORD for a new one that is shorter than the operator wants.",
        who: themselves
      })
    ),
    HttpApiEndpoint.get("links", "/account/links", { success: Links }).annotateMerge(
      documented({ summary: "The addresses and services by which the user can log in", who: themselves })
    ),
    HttpApiEndpoint.post("link", "/account/links", { payload: LoginStage, success: LoginAnswer }).annotateMerge(
      documented({
        summary: "Add an email address or an account at a service",
        text:
          "A stage, as at `POST /login`, of m.login.email.code, m.login.email.url or m.login.oauth2. Ends with `{}`. After " +
          "the return from a service, send its type again with the new `session`. Errors: M_FORBIDDEN, M_NOT_FOUND.",
        who: themselves
      })
    ),
    HttpApiEndpoint.post("unlink", "/account/links/remove", { payload: RemoveLink, success: Done }).annotateMerge(
      documented({ summary: "Remove an address or a service", text: "Errors: M_NOT_FOUND.", who: themselves })
    ),
    HttpApiEndpoint.get("thirdPartyIds", "/account/3pid", { success: ThirdPartyIds }).annotateMerge(
      documented({ summary: "The addresses of the account", who: themselves })
    ),
    HttpApiEndpoint.post("addThirdPartyId", "/account/3pid", {
      payload: AddThirdPartyId,
      success: Done,
      error: sessionErrors
    }).annotateMerge(
      documented({
        summary: "Add an address that an identity server has validated",
        text:
          "The identity server binds it to the user, so that others find the user by it; waiting invitations of the address " +
          "invite the user. Errors: M_NO_VALID_SESSION, M_SESSION_NOT_VALIDATED, M_SESSION_EXPIRED, M_FORBIDDEN if it " +
          "belongs to another account, M_UNKNOWN if the identity server cannot be reached.",
        who: themselves
      })
    ),
    HttpApiEndpoint.post("removeThirdPartyId", "/account/3pid/delete", {
      payload: RemoveThirdPartyId,
      success: Done,
      error: sessionErrors
    }).annotateMerge(
      documented({
        summary: "Remove an address",
        text:
          "With `sid` and `client_secret` of a session that has validated it, the identity server forgets it too. " +
          "Errors: M_NOT_FOUND.",
        who: themselves
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(
    OpenApi.annotations({ title: "Account", description: "Devices, the password, and other ways to log in." })
  ) {}
