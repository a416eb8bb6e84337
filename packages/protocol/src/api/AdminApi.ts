/**
 * Administration of accounts, for users with the admin flag. The command line does the same.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { UserId } from "../Identifiers.ts"
import { Devices } from "./AccountApi.ts"
import { Authentication } from "./Authentication.ts"
import { body, Done, OptionalObject } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { maxSecretLength } from "./LoginFlow.ts"
import { boundedText } from "./Parameters.ts"

const time = Schema.Int.annotate({ description: "Milliseconds since 1970" })

const AdminUserFields = Schema.Struct({
  user_id: UserId,
  admin: Schema.Boolean,
  has_password: Schema.Boolean,
  created_ts: time,
  deactivated_ts: Schema.optionalKey(time)
}).annotate({ identifier: "AdminUser" })

/** An account, as operators see it. */
export const AdminUser = body(AdminUserFields)
export type AdminUser = typeof AdminUser.Type

/** A page of accounts. */
export const AdminUsers = body(
  Schema.Struct({
    users: Schema.Array(AdminUserFields),
    next: Schema.optionalKey(UserId.annotate({ description: "The `after` of the next page" }))
  }).annotate({ identifier: "AdminUsers" })
)
export type AdminUsers = typeof AdminUsers.Type

const Password = Schema.String.check(Schema.isMaxLength(maxSecretLength))

/** A new account. */
export const CreateUser = Schema.Struct({
  user: boundedText(512).annotate({ description: "A localpart or a whole user ID" }),
  password: Schema.optionalKey(Password),
  admin: Schema.optionalKey(Schema.Boolean),
  email: Schema.optionalKey(boundedText(320).annotate({ description: "Taken as verified by the operator" }))
}).annotate({ identifier: "CreateUser" })

const TokenFields = Schema.Struct({
  token_id: Schema.String.annotate({ description: "The ID of the token, which is not secret" }),
  uses: Schema.Int,
  uses_allowed: Schema.optionalKey(Schema.Int.annotate({ description: "Absent for any number" })),
  expires_ts: Schema.optionalKey(time),
  created_ts: time
})

/** Registration tokens, without their secrets. */
export const RegistrationTokens = body(
  Schema.Struct({ registration_tokens: Schema.Array(TokenFields) }).annotate({ identifier: "RegistrationTokens" })
)
export type RegistrationTokens = typeof RegistrationTokens.Type

/** A new registration token. */
export const CreateRegistrationToken = Schema.Struct({
  token: Schema.optionalKey(
    Schema.String.check(Schema.isMinLength(8), Schema.isMaxLength(512)).annotate({
      description: "The secret (default: a random one)"
    })
  ),
  uses_allowed: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 })).annotate({
      description: "How many times it may be used (default: once)"
    })
  ),
  unlimited: Schema.optionalKey(Schema.Boolean.annotate({ description: "True for any number of uses" })),
  valid_for: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1e13 })).annotate({
      description: "Milliseconds until it expires (default: never)"
    })
  )
}).annotate({ identifier: "CreateRegistrationToken" })

/** The secret is shown this once. */
export const NewRegistrationToken = body(
  Schema.Struct({ token: Schema.String, token_id: Schema.String }).annotate({ identifier: "NewRegistrationToken" })
)

const ofUser = { userId: UserId }
const ofDevice = { userId: UserId, deviceId: boundedText(255) }
const who = "admins; everybody else gets M_FORBIDDEN"

export class AdminApi extends HttpApiGroup.make("admin")
  .add(
    HttpApiEndpoint.get("users", "/admin/users", {
      query: { after: Schema.optionalKey(boundedText(255)) },
      success: AdminUsers
    }).annotateMerge(documented({ summary: "Accounts, in the order of their user IDs", who })),
    HttpApiEndpoint.post("createUser", "/admin/users", { payload: CreateUser, success: AdminUser }).annotateMerge(
      documented({
        summary: "Create an account",
        text: "Works also if registration is closed. Errors: M_USER_IN_USE, M_INVALID_USERNAME, M_WEAK_PASSWORD, M_BAD_JSON.",
        who
      })
    ),
    HttpApiEndpoint.get("user", "/admin/users/:userId", { params: ofUser, success: AdminUser }).annotateMerge(
      documented({ summary: "An account", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.put("setAdmin", "/admin/users/:userId/admin", {
      params: ofUser,
      payload: Schema.Struct({ admin: Schema.Boolean }),
      success: Done
    }).annotateMerge(documented({ summary: "Set or remove the admin flag", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.post("resetPassword", "/admin/users/:userId/password", {
      params: ofUser,
      payload: Schema.Struct({ new_password: Password }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Set a new password",
        text: "Ends every login of the user. Errors: M_NOT_FOUND, M_WEAK_PASSWORD.",
        who
      })
    ),
    HttpApiEndpoint.post("deactivate", "/admin/users/:userId/deactivate", {
      params: ofUser,
      payload: OptionalObject,
      success: Done
    }).annotateMerge(
      documented({
        summary: "Deactivate an account",
        text: "Removes personal data. The user ID cannot be registered again. Errors: M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.get("devices", "/admin/users/:userId/devices", { params: ofUser, success: Devices }).annotateMerge(
      documented({ summary: "The devices of a user", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.delete("removeDevice", "/admin/users/:userId/devices/:deviceId", {
      params: ofDevice,
      success: Done
    }).annotateMerge(documented({ summary: "End the login of one device", text: "Errors: M_NOT_FOUND.", who })),
    HttpApiEndpoint.get("registrationTokens", "/admin/registration_tokens", {
      success: RegistrationTokens
    }).annotateMerge(documented({ summary: "Registration tokens, without their secrets", who })),
    HttpApiEndpoint.post("createRegistrationToken", "/admin/registration_tokens", {
      payload: CreateRegistrationToken,
      success: NewRegistrationToken
    }).annotateMerge(
      documented({ summary: "Make a registration token", text: "Only this answer contains the secret.", who })
    ),
    HttpApiEndpoint.delete("removeRegistrationToken", "/admin/registration_tokens/:tokenId", {
      params: { tokenId: boundedText(255) },
      success: Done
    }).annotateMerge(documented({ summary: "Delete a registration token", text: "Errors: M_NOT_FOUND.", who }))
  )
  .middleware(Authentication)
  .annotateMerge(
    OpenApi.annotations({
      title: "Administration",
      description: "For users with the admin flag; M_FORBIDDEN for others."
    })
  ) {}
