/**
 * Profiles, as calls of `Users`.
 *
 * Source: "Profiles" of the draft.
 */
import { Users } from "@greenroom/actors/user/Users"
import { CurrentSession, CurrentViewer } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect, Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "./EndpointServices.ts"

const isVisibility = Schema.is(ProfileVisibility)

/** The value of a field and its visibility, from `{[field]: value, visibility?}`. Errors: M_BAD_JSON. */
const readField = (field: string, body: JsonObject) => {
  const value = body[field]
  const visibility = body.visibility
  if (value === undefined) return Effect.fail(new BadJson({ error: `${field}: missing key` }))
  if (visibility !== undefined && !isVisibility(visibility)) {
    return Effect.fail(new BadJson({ error: "visibility: expected public, rooms, contacts or private" }))
  }
  return Effect.succeed({ value, visibility })
}

export const profileHandlers = HttpApiBuilder.group(ClientApi, "profile", (handlers) =>
  withServices(function* () {
    const users = yield* Users

    const field = (userId: UserId, name: string) =>
      CurrentViewer.use((viewer) => users.profileField(viewer, userId, name))

    const setField = (userId: UserId, name: string, value: Json, visibility?: ProfileVisibility) =>
      CurrentSession.use((session) => Effect.as(users.setProfileField(session, userId, name, value, visibility), done))

    return handlers
      .handle("get", ({ params }) => CurrentViewer.use((viewer) => users.profile(viewer, params.userId)))
      .handle("getDisplayName", ({ params }) => field(params.userId, "displayname"))
      .handle("setDisplayName", ({ params, payload }) => setField(params.userId, "displayname", payload.displayname))
      .handle("getAvatarUrl", ({ params }) => field(params.userId, "avatar_url"))
      .handle("setAvatarUrl", ({ params, payload }) => setField(params.userId, "avatar_url", payload.avatar_url))
      .handle("getField", ({ params }) => field(params.userId, params.field))
      .handle("setField", ({ params, payload }) =>
        Effect.flatMap(readField(params.field, payload), ({ value, visibility }) =>
          setField(params.userId, params.field, value, visibility)
        )
      )
  })
)
