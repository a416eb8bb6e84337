/**
 * Binding and unbinding over HTTP.
 *
 * Source: "Identity" of the draft.
 */
import { done } from "@greenroom/protocol/api/Body"
import { IdentityApi } from "@greenroom/protocol/identity/IdentityApi"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Associations } from "../Associations.ts"
import { ValidationSessions } from "../ValidationSessions.ts"

export const thirdPartyIdHandlers = HttpApiBuilder.group(IdentityApi, "thirdPartyIds", (handlers) =>
  Effect.gen(function* () {
    const sessions = yield* ValidationSessions
    const associations = yield* Associations
    return handlers
      .handle("validated", ({ query }) =>
        Effect.map(sessions.validated(query), ({ address, medium, validatedAt }) => ({
          medium,
          address,
          validated_at: validatedAt
        }))
      )
      .handle("bind", ({ payload }) =>
        Effect.flatMap(sessions.validated(payload), (session) => associations.bind(session, payload.mxid))
      )
      .handle("unbind", ({ payload }) =>
        Effect.gen(function* () {
          const session = yield* sessions.validated(payload)
          const { address, medium } = payload.threepid
          if (session.medium !== medium || session.address !== address) {
            return yield* new Forbidden({ error: "The session has validated another address" })
          }
          yield* associations.unbind(session, payload.mxid)
          return done
        })
      )
  })
)
