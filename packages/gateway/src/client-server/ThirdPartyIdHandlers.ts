/**
 * Addresses of accounts, their validation, and the password that is reset by them: calls of `AddressValidations`,
 * `ThirdPartyIds`, `InteractiveAuth` and `Accounts`.
 *
 * Source: "Account management" and "Adding Account Administrative Contact Information" of the client-server
 * specification.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import {
  type AddressLink,
  AddressValidations,
  addressLinkPath,
  type ValidationPurpose
} from "@greenroom/actors/account/AddressValidations"
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import { resettingPassword } from "@greenroom/actors/account/InteractiveRequest"
import { toMatrixError } from "@greenroom/actors/identity/IdentityServer"
import { ThirdPartyIds } from "@greenroom/actors/identity/ThirdPartyIds"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { Session } from "@greenroom/actors/runtime/Session"
import { CurrentSession, CurrentViewer } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { type ThirdPartyId, toCanonical } from "@greenroom/protocol/identity/ThirdPartyId"
import { Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted, Result } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { addressConfirmedPage, addressLinkPage } from "../pages/AddressLinkPage.ts"
import { expiredPage } from "../pages/EmailLinkPage.ts"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "../TrustedProxies.ts"
import { answerInteraction } from "./Interaction.ts"

type Request = HttpServerRequest.HttpServerRequest

interface TokenPayload {
  readonly client_secret: string
  readonly send_attempt: number
  readonly next_link?: string | null
}

export const addressValidationHandlers = HttpApiBuilder.group(
  ClientServerApi,
  "clientServer.addressValidation",
  (handlers) =>
    withServices(function* () {
      const validations = yield* AddressValidations
      const limit = yield* RateLimit
      const publicUrl = yield* PublicUrl

      const common = (purpose: ValidationPurpose, payload: TokenPayload, request: Request) => ({
        purpose,
        clientSecret: payload.client_secret,
        sendAttempt: payload.send_attempt,
        nextLink: payload.next_link ?? undefined,
        address: addressOf(request),
        publicUrl: publicUrl.get()
      })

      const email =
        (purpose: ValidationPurpose) =>
        ({
          payload,
          request
        }: {
          readonly payload: TokenPayload & { readonly email: string }
          readonly request: Request
        }) =>
          Effect.andThen(
            limit.takeFrom("logins", addressOf(request)),
            validations.requestEmail({ ...common(purpose, payload, request), email: payload.email })
          )

      const phone =
        (purpose: ValidationPurpose) =>
        ({
          payload,
          request
        }: {
          readonly payload: TokenPayload & { readonly phone_number: string; readonly country?: string | null }
          readonly request: Request
        }) =>
          Effect.andThen(
            limit.takeFrom("logins", addressOf(request)),
            validations.requestPhone({
              ...common(purpose, payload, request),
              phoneNumber: payload.phone_number,
              country: payload.country ?? undefined
            })
          )

      return handlers
        .handle("emailToRegister", email("registration"))
        .handle("phoneToRegister", phone("registration"))
        .handle("emailForPassword", email("password"))
        .handle("phoneForPassword", phone("password"))
        .handle("emailToAdd", email("account"))
        .handle("phoneToAdd", phone("account"))
    })
)

export const addressPagesHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.addressPages", (handlers) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const validations = yield* AddressValidations
    const limit = yield* RateLimit

    const asPage = (
      request: Request,
      link: Effect.Effect<AddressLink, MatrixError>,
      toPage: typeof addressConfirmedPage
    ) =>
      Effect.andThen(
        limit.takeFrom("anonymous", addressOf(request)),
        Effect.match(link, { onSuccess: toPage, onFailure: () => expiredPage })
      )

    /** Opening a link confirms the address, except if the link is for a new password. */
    const opened = (sid: string, token: string) =>
      Effect.flatMap(validations.link(sid, token), (link) =>
        link.purpose === "password" ? Effect.succeed(link) : validations.confirm(sid, token)
      )

    return handlers
      .handle("link", ({ query: { sid = "", token = "" }, request }) =>
        asPage(request, opened(sid, token), (link) =>
          link.purpose === "password"
            ? addressLinkPage(link, `${addressLinkPath}?${new URLSearchParams({ sid, token })}`, serverName)
            : addressConfirmedPage(link)
        )
      )
      .handle("confirm", ({ query: { sid = "", token = "" }, request }) =>
        asPage(request, validations.confirm(sid, token), addressConfirmedPage)
      )
  })
)

const nobody = new Forbidden({ error: "No account has this address" })

export const passwordHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.password", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    const interactive = yield* InteractiveAuth
    const sockets = yield* Sockets

    return handlers.handle("change", ({ payload, request }) =>
      CurrentViewer.use((viewer) =>
        answerInteraction(
          Effect.gen(function* () {
            const session: Session | undefined = viewer
            const { finish, results } = yield* interactive.authorise({
              operation: resettingPassword,
              session,
              auth: payload.auth,
              address: addressOf(request),
              flows: session === undefined ? interactive.resetFlows : yield* interactive.flowsOf(session)
            })
            const userId = session?.userId ?? results.owner
            if (userId === undefined) return yield* nobody
            yield* finish
            const ended = yield* accounts.replacePassword(
              session ?? { userId, tokenId: 0, deviceId: "" },
              Redacted.make(payload.new_password),
              { logoutOthers: payload.logout_devices ?? true }
            )
            yield* Effect.forEach(ended, sockets.closeToken, { discard: true })
            return done
          })
        )
      )
    )
  })
)

/** Whether identity servers ended the bindings, in the words of the client API. */
export const unbindResult = (ended: boolean) => ({
  id_server_unbind_result: ended ? ("success" as const) : ("no-support" as const)
})

/** The specification has 403 for this one endpoint, and 400 for the same error elsewhere. */
const unverified = (error: string) =>
  HttpServerResponse.jsonUnsafe({ errcode: "M_THREEPID_AUTH_FAILED", error }, { status: 403 })

interface UnboundAddress extends ThirdPartyId {
  readonly id_server?: string | null
}

export const thirdPartyIdHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.thirdPartyIds", (handlers) =>
  withServices(function* () {
    const interactive = yield* InteractiveAuth
    const thirdPartyIds = yield* ThirdPartyIds
    const validations = yield* AddressValidations

    /** Whether the identity servers ended their bindings of the address to the user. False if none may be asked. */
    const withdraw = Effect.fnUntraced(function* (session: Session, payload: UnboundAddress) {
      const bindings = yield* thirdPartyIds.bindings(session, toCanonical(payload), payload.id_server ?? undefined)
      return bindings.length > 0 && (yield* thirdPartyIds.withdraw(session, bindings))
    })

    return handlers
      .handle("list", () =>
        CurrentSession.use((session) =>
          Effect.map(thirdPartyIds.list(session), (addresses) => ({
            threepids: addresses.map(({ address, medium, verifiedAt }) => ({
              medium,
              address,
              validated_at: verifiedAt,
              added_at: verifiedAt
            }))
          }))
        )
      )
      .handle("addOld", ({ payload }) =>
        CurrentSession.use((session) =>
          validations.validated(payload.three_pid_creds).pipe(
            Effect.flatMap((address) => thirdPartyIds.add(session, address)),
            Effect.as(done),
            Effect.catchTag("M_THREEPID_AUTH_FAILED", ({ error }) => Effect.succeed(unverified(error)))
          )
        )
      )
      .handle("add", ({ payload, request }) =>
        CurrentSession.use((session) =>
          answerInteraction(
            Effect.gen(function* () {
              const address = yield* validations.validated(payload)
              const { finish } = yield* interactive.authorise({
                operation: `POST /account/3pid/add ${payload.sid}`,
                session,
                auth: payload.auth,
                address: addressOf(request),
                flows: yield* interactive.flowsOf(session)
              })
              yield* finish
              yield* thirdPartyIds.add(session, address)
              return done
            })
          )
        )
      )
      .handle("bind", ({ payload }) =>
        CurrentSession.use((session) =>
          thirdPartyIds
            .publish(session, payload, payload.id_access_token)
            .pipe(Effect.mapError(toMatrixError), Effect.as(done))
        )
      )
      .handle("unbind", ({ payload }) =>
        CurrentSession.use((session) => Effect.map(withdraw(session, payload), unbindResult))
      )
      .handle("delete", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const taken = yield* Effect.result(thirdPartyIds.unbind(session, toCanonical(payload)))
            const isUnbound = yield* withdraw(session, payload)
            // An address may be bound without being part of the account.
            if (Result.isFailure(taken) && !isUnbound) return yield* Effect.fail(toMatrixError(taken.failure))
            return unbindResult(isUnbound)
          })
        )
      )
  })
)
