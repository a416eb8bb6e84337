/**
 * Registration by a shared secret, as calls of `SharedSecretRegistration`.
 *
 * Source: "Shared-Secret Registration" of Synapse's administration API.
 */
import { SharedSecretRegistration } from "@greenroom/actors/account/SharedSecretRegistration"
import { Users } from "@greenroom/actors/user/Users"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"

export const sharedSecretHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.sharedSecret", (handlers) =>
  withServices(function* () {
    const registration = yield* SharedSecretRegistration
    const users = yield* Users
    const limit = yield* RateLimit
    return handlers
      .handle("nonce", ({ request }) =>
        Effect.andThen(
          limit.takeFrom("anonymous", addressOf(request)),
          Effect.map(registration.nonce, (nonce) => ({ nonce }))
        )
      )
      .handle("register", ({ payload, request }) =>
        Effect.gen(function* () {
          const address = addressOf(request)
          yield* limit.takeFrom("registrations", address)
          const credentials = yield* registration.register({
            nonce: payload.nonce,
            username: payload.username,
            password: Redacted.make(payload.password),
            admin: payload.admin ?? false,
            userType: payload.user_type ?? undefined,
            mac: payload.mac,
            address
          })
          const { displayname } = payload
          if (displayname != null) {
            const { device_id: deviceId, user_id: userId } = credentials
            yield* users.setProfileField({ userId, tokenId: 0, deviceId }, userId, "displayname", displayname)
          }
          return credentials
        })
      )
  })
)
