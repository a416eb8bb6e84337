/**
 * Profiles and presence.
 *
 * Source: "Profiles" and "Presence" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication } from "../api/Authentication.ts"
import { AnyObject, AnyPayload, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { UserId } from "../Identifiers.ts"

/** The name of a profile field. Longer ones are refused by the endpoint, with M_KEY_TOO_LARGE. */
const FieldName = boundedText(16_384)
const field = { userId: UserId, keyName: FieldName }
const Profile = body(
  Schema.StructWithRest(
    Schema.Struct({
      displayname: Schema.optionalKey(Schema.String),
      avatar_url: Schema.optionalKey(Schema.String),
      "m.tz": Schema.optionalKey(Schema.String)
    }),
    [Schema.Record(Schema.String, Schema.Json)]
  ).annotate({ identifier: "Profile" })
)
const everybody = "anyone"

export class ProfileApi extends HttpApiGroup.make("clientServer.profile")
  .add(
    HttpApiEndpoint.get("profile", "/v3/profile/:userId", { params: { userId: UserId }, success: Profile })
      .middleware(OptionalAuthentication)
      .annotateMerge(documented({ summary: "The profile of a user", text: "Errors: M_NOT_FOUND.", who: everybody })),
    HttpApiEndpoint.get("field", "/v3/profile/:userId/:keyName", { params: field, success: AnyObject })
      .middleware(OptionalAuthentication)
      .annotateMerge(documented({ summary: "A profile field", text: "Errors: M_NOT_FOUND.", who: everybody })),
    HttpApiEndpoint.put("setField", "/v3/profile/:userId/:keyName", {
      params: field,
      payload: AnyPayload,
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Set a profile field",
          text: "The body has the field by its name. Errors: M_MISSING_PARAM, M_KEY_TOO_LARGE, M_PROFILE_TOO_LARGE.",
          who: "the user"
        })
      ),
    HttpApiEndpoint.delete("removeField", "/v3/profile/:userId/:keyName", { params: field, success: Done })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "Remove a profile field", who: "the user" }))
  )
  .annotateMerge(OpenApi.annotations({ title: "Profiles" })) {}

const PresenceState = Schema.Literals(["online", "offline", "unavailable"])

export class PresenceApi extends HttpApiGroup.make("clientServer.presence")
  .add(
    HttpApiEndpoint.get("get", "/v3/presence/:userId/status", {
      params: { userId: UserId },
      success: body(
        Schema.Struct({
          presence: Schema.String,
          last_active_ago: Schema.optionalKey(Schema.Int),
          status_msg: Schema.optionalKey(Schema.String),
          currently_active: Schema.optionalKey(Schema.Boolean)
        }).annotate({ identifier: "PresenceStatus" })
      )
    }).annotateMerge(documented({ summary: "The presence of a user", who: "users who share a room with them" })),
    HttpApiEndpoint.put("set", "/v3/presence/:userId/status", {
      params: { userId: UserId },
      payload: Schema.Struct({
        presence: PresenceState,
        status_msg: Schema.optionalKey(Schema.NullOr(boundedText(1_024)))
      }),
      success: Done
    }).annotateMerge(documented({ summary: "Set the presence of the user", who: "the user" }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Presence" })) {}
