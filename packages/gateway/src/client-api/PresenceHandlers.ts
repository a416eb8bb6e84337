/**
 * Presence and presence lists, as calls of `Presences` and `Users`.
 *
 * Source: "Presence" of the draft.
 */
import { Presences } from "@greenroom/actors/presence/Presences"
import { Users } from "@greenroom/actors/user/Users"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import type { ChangePresenceList } from "@greenroom/protocol/api/PresenceApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "./EndpointServices.ts"

export const presenceHandlers = HttpApiBuilder.group(ClientApi, "presence", (handlers) =>
  withServices(function* () {
    const presences = yield* Presences
    const users = yield* Users

    const list = (userId: UserId) => CurrentSession.use((session) => users.presenceList(session, userId))

    const changeList = (userId: UserId, { accept = [], deny = [], drop, invite }: ChangePresenceList) =>
      Effect.gen(function* () {
        const session = yield* CurrentSession
        if (session.userId !== userId)
          return yield* new Forbidden({ error: `userId: the access token belongs to ${session.userId}` })
        for (const observer of accept) yield* users.answerPresenceInvite(session, observer, true)
        for (const observer of deny) yield* users.answerPresenceInvite(session, observer, false)
        yield* users.updatePresenceList(session, userId, {
          ...(invite === undefined ? {} : { invite }),
          ...(drop === undefined ? {} : { drop })
        })
        return done
      })

    return handlers
      .handle("getStatus", ({ params }) => CurrentSession.use((session) => presences.get(session, params.userId)))
      .handle("setStatus", ({ params, payload: { presence, state = presence, status_msg } }) =>
        CurrentSession.use((session) =>
          Effect.as(presences.set(session, params.userId, state ?? "online", status_msg ?? undefined), done)
        )
      )
      .handle("getList", ({ params }) => list(params.userId))
      .handle("changeList", ({ params, payload }) => changeList(params.userId, payload))
      .handle("getObservers", ({ params }) =>
        CurrentSession.use((session) => users.presenceObservers(session, params.userId))
      )
      .handle("getListByOldPath", ({ params }) => list(params.userId))
      .handle("changeListByOldPath", ({ params, payload }) => changeList(params.userId, payload))
  })
)
