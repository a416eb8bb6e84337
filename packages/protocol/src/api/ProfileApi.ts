/**
 * Profiles: a display name, an avatar, and other fields that a user publishes, each with its audience.
 *
 * Source: "Profiles" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { UserId } from "../Identifiers.ts"
import { Authentication, OptionalAuthentication } from "./Authentication.ts"
import { AnyObject, AnyPayload, body, Done } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { ProfileField } from "./Parameters.ts"

/** The readers of a field: all users, users who share a room, users whom the user accepted, nobody else. */
export const ProfileVisibility = Schema.Literals(["public", "rooms", "contacts", "private"])
export type ProfileVisibility = typeof ProfileVisibility.Type

const ofUser = { userId: UserId }
const anyone = "anyone, where the visibility of the field lets them"

const text = (most: number) => Schema.NullOr(Schema.String.check(Schema.isMaxLength(most)))

/** A display name; null removes it. */
export const SetDisplayName = Schema.Struct({ displayname: text(1024) }).annotate({ identifier: "SetDisplayName" })
/** The URL of an avatar; null removes it. */
export const SetAvatarUrl = Schema.Struct({ avatar_url: text(4096) }).annotate({ identifier: "SetAvatarUrl" })

const unset = "null where the user has none. Errors: M_NOT_FOUND."
const profileText =
  "Sent to every room of the user as m.room.member, and as m.presence to those who see the user's presence. " +
  "Errors: M_FORBIDDEN."

export class ProfileApi extends HttpApiGroup.make("profile")
  .add(
    HttpApiEndpoint.get("get", "/profile/:userId", { params: ofUser, success: AnyObject })
      .middleware(OptionalAuthentication)
      .annotateMerge(
        documented({
          summary: "The profile of a user",
          text: "Errors: M_NOT_FOUND.",
          who: anyone,
          response: { displayname: "Alice", avatar_url: "https://example.org/alice.png", location: "London" }
        })
      ),
    HttpApiEndpoint.get("getDisplayName", "/profile/:userId/displayname", {
      params: ofUser,
      success: body(Schema.Struct({ displayname: Schema.optionalKey(Schema.NullOr(Schema.String)) }))
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(documented({ summary: "The display name of a user", text: unset, who: anyone })),
    HttpApiEndpoint.put("setDisplayName", "/profile/:userId/displayname", {
      params: ofUser,
      payload: SetDisplayName,
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "Set the display name", text: profileText, who: "the user" })),
    HttpApiEndpoint.get("getAvatarUrl", "/profile/:userId/avatar_url", {
      params: ofUser,
      success: body(Schema.Struct({ avatar_url: Schema.optionalKey(Schema.NullOr(Schema.String)) }))
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(documented({ summary: "The avatar of a user", text: unset, who: anyone })),
    HttpApiEndpoint.put("setAvatarUrl", "/profile/:userId/avatar_url", {
      params: ofUser,
      payload: SetAvatarUrl,
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "Set the avatar", text: profileText, who: "the user" })),
    HttpApiEndpoint.get("getField", "/profile/:userId/:field", {
      params: { userId: UserId, field: ProfileField },
      success: AnyObject
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(
        documented({
          summary: "A profile field",
          text: 'The field in an object, such as `{"location": "London"}`. Errors: M_NOT_FOUND.',
          who: anyone,
          response: { location: "London" }
        })
      ),
    HttpApiEndpoint.put("setField", "/profile/:userId/:field", {
      params: { userId: UserId, field: ProfileField },
      payload: AnyPayload,
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Set a profile field",
          text:
            'email, phone, url, location, bio or a namespaced name: `{"location": "London", "visibility": "rooms"}`. ' +
            "`visibility` is public (the default), rooms, contacts or private; null removes the field. Errors: M_BAD_JSON, " +
            "M_FORBIDDEN.",
          who: "the user",
          request: { location: "London", visibility: "rooms" }
        })
      )
  )
  .annotateMerge(
    OpenApi.annotations({ title: "Profiles", description: "The published fields of users, each with its audience." })
  ) {}
