/**
 * Profiles and presence, as calls of `Users` and `Presences`.
 *
 * Source: "Profiles" and "Presence" of the client-server specification.
 */
import { Presences } from "@greenroom/actors/presence/Presences"
import { isFieldName, Users } from "@greenroom/actors/user/Users"
import { CurrentSession, CurrentViewer } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { InvalidParam, KeyTooLarge, MissingParam } from "@greenroom/protocol/MatrixError"
import { isText } from "@greenroom/protocol/Text"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

/** Names that are longer than 255 bytes have an error of their own. */
const checkName = (name: string): Effect.Effect<void, KeyTooLarge | InvalidParam> => {
  if (!isText(name, 1)) return Effect.fail(new KeyTooLarge({ error: "keyName: must have 1 to 255 bytes" }))
  return isFieldName(name)
    ? Effect.void
    : Effect.fail(new InvalidParam({ error: `keyName: no field has the name ${name}` }))
}

export const profileHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.profile", (handlers) =>
  withServices(function* () {
    const users = yield* Users
    return handlers
      .handle("profile", ({ params }) => CurrentViewer.use((viewer) => users.profile(viewer, params.userId)))
      .handle("field", ({ params }) =>
        CurrentViewer.use((viewer) =>
          Effect.map(users.profileField(viewer, params.userId, params.keyName), (field) =>
            // An unset display name is null in the draft's API, and absent in today's.
            Object.fromEntries(Object.entries(field).filter(([, value]) => value !== null))
          )
        )
      )
      .handle("setField", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            yield* checkName(params.keyName)
            const value = payload[params.keyName]
            if (value === undefined) return yield* new MissingParam({ error: `${params.keyName}: missing key` })
            // Clients remove the name and the avatar by the empty string, as Synapse does.
            const isNone = value === "" && ["displayname", "avatar_url"].includes(params.keyName)
            yield* users.setProfileField(session, params.userId, params.keyName, isNone ? null : value)
            return done
          })
        )
      )
      .handle("removeField", ({ params }) =>
        CurrentSession.use((session) =>
          checkName(params.keyName).pipe(
            Effect.andThen(users.setProfileField(session, params.userId, params.keyName, null)),
            Effect.as(done)
          )
        )
      )
  })
)

export const presenceHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.presence", (handlers) =>
  withServices(function* () {
    const presences = yield* Presences
    return handlers
      .handle("get", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.map(presences.get(session, params.userId), ({ last_active_ago, presence, status_msg }) => ({
            presence,
            ...(last_active_ago === undefined ? {} : { last_active_ago }),
            ...(status_msg === undefined ? {} : { status_msg }),
            currently_active: presence === "online"
          }))
        )
      )
      .handle("set", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(presences.set(session, params.userId, payload.presence, payload.status_msg ?? undefined), done)
        )
      )
  })
)
