/**
 * The account of the caller, as calls of `Accounts`, `LoginFlows`, `ThirdPartyIds` and `LoginMethods`.
 *
 * Source: "Registration and login" and "Identity" of the draft.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { LoginMethods, type VerifiedAddress } from "@greenroom/actors/account/LoginMethods"
import { LoginFlows } from "@greenroom/actors/account/login/LoginFlows"
import { ThirdPartyIds } from "@greenroom/actors/identity/ThirdPartyIds"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { RemoveThirdPartyId } from "@greenroom/protocol/api/AccountApi"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { toCanonical } from "@greenroom/protocol/identity/ThirdPartyId"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "../TrustedProxies.ts"
import { withServices } from "./EndpointServices.ts"
import { withoutNulls } from "./Stages.ts"

const toAnswer = ({ address, medium, verifiedAt }: VerifiedAddress) => ({
  medium,
  address,
  validated_at: verifiedAt
})

/** The proof of ownership that a request to remove an address contains. */
const proofOf = ({ client_secret, id_server, sid }: RemoveThirdPartyId) =>
  sid === undefined || client_secret === undefined
    ? undefined
    : { sid, client_secret, ...(id_server === undefined ? {} : { id_server }) }

export const accountHandlers = HttpApiBuilder.group(ClientApi, "account", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    const flows = yield* LoginFlows
    const loginMethods = yield* LoginMethods
    const thirdPartyIds = yield* ThirdPartyIds
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    const publicUrl = yield* PublicUrl

    const closeTokens = (tokenIds: ReadonlyArray<number>) =>
      Effect.as(Effect.forEach(tokenIds, sockets.closeToken, { discard: true }), done)

    return handlers
      .handle("devices", () =>
        CurrentSession.use((session) => Effect.map(accounts.devices(session), (devices) => ({ devices })))
      )
      .handle("removeDevice", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.flatMap(accounts.logoutDevice(session.userId, params.deviceId), closeTokens)
        )
      )
      .handle("changePassword", ({ payload, request }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const address = addressOf(request)
            yield* limit.takeFrom("logins", address, session.userId)
            const { new_password, old_password } = payload
            const ended = yield* accounts.changePassword(session, {
              oldPassword: Redacted.make(old_password),
              newPassword: Redacted.make(new_password),
              address
            })
            return yield* closeTokens(ended)
          })
        )
      )
      .handle("links", () =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const { flows: toLink } = yield* flows.flows("link")
            const addresses = yield* loginMethods.addresses(session)
            return {
              flows: toLink,
              threepids: addresses.map(toAnswer),
              services: yield* loginMethods.services(session)
            }
          })
        )
      )
      .handle("link", ({ payload, request }) =>
        CurrentSession.use((session) =>
          Effect.map(
            flows.post({
              purpose: "link",
              body: { ...withoutNulls(payload), fallback: false },
              address: addressOf(request),
              publicUrl: publicUrl.get(),
              session
            }),
            ({ answer }) => answer
          )
        )
      )
      .handle("unlink", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.as(
            "medium" in payload
              ? loginMethods.removeAddress(session, toCanonical(payload))
              : loginMethods.removeService(session, payload),
            done
          )
        )
      )
      .handle("thirdPartyIds", () =>
        CurrentSession.use((session) =>
          Effect.map(thirdPartyIds.list(session), (addresses) => ({ threepids: addresses.map(toAnswer) }))
        )
      )
      .handle("addThirdPartyId", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.as(thirdPartyIds.bind(session, "three_pid_creds" in payload ? payload.three_pid_creds : payload), done)
        )
      )
      .handle("removeThirdPartyId", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.as(thirdPartyIds.unbind(session, toCanonical(payload), proofOf(payload)), done)
        )
      )
  })
)
