/**
 * Login, logout and `whoami`.
 *
 * Source: "Legacy authentication" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { body, Done, OptionalObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { UserId } from "../Identifiers.ts"

/** The user and the device of an access token. */
export const Whoami = body(
  Schema.Struct({
    user_id: UserId,
    device_id: Schema.optionalKey(Schema.String),
    is_guest: Schema.Boolean
  }).annotate({ identifier: "Whoami" })
)
export type Whoami = typeof Whoami.Type

export class SessionApi extends HttpApiGroup.make("clientServer.session")
  .add(
    HttpApiEndpoint.get("whoami", "/v3/account/whoami", { success: Whoami }).annotateMerge(
      documented({ summary: "The user and device of the access token", who: "any user" })
    ),
    HttpApiEndpoint.post("logout", "/v3/logout", { payload: OptionalObject, success: Done }).annotateMerge(
      documented({ summary: "End the access token and its device", who: "the user" })
    ),
    HttpApiEndpoint.post("logoutAll", "/v3/logout/all", { payload: OptionalObject, success: Done }).annotateMerge(
      documented({ summary: "End every access token of the user", who: "the user" })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Sessions" })) {}
