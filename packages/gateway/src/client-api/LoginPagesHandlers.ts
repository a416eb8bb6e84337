/**
 * The pages on which users continue a login in their browser, as calls of `LoginFlows`.
 *
 * Source: "OAuth2-based" and "Email-based (url)" of "Registration and login" of the draft.
 */

import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { LoginFlows, type OAuth2Return } from "@greenroom/actors/account/login/LoginFlows"
import { SsoLogins } from "@greenroom/actors/account/login/SsoLogins"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { type MatrixError, statusOf } from "@greenroom/protocol/MatrixError"
import { Effect, Option, Result } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { ssoAnswer } from "../client-server/SsoHandlers.ts"
import { confirmedPage, emailLinkPage, expiredPage } from "../pages/EmailLinkPage.ts"
import { fallbackPage } from "../pages/FallbackPage.ts"
import { messagePage } from "../pages/Page.ts"
import { servicesPage } from "../pages/ServicesPage.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { browserSecretOf } from "./BrowserSecret.ts"
import { withServices } from "./EndpointServices.ts"

const wantsPage = (request: HttpServerRequest.HttpServerRequest): boolean =>
  request.headers.accept?.includes("text/html") ?? false

/** An error as a page, for browsers. */
const errorPage = (error: MatrixError): HttpServerResponse.HttpServerResponse =>
  error._tag === "M_NOT_FOUND"
    ? expiredPage
    : messagePage({ title: "That did not work", text: error.error, status: statusOf[error._tag] })

const queryOf = (url: string): string => {
  const start = url.indexOf("?")
  return start === -1 ? "" : url.slice(start + 1)
}

const noStore = HttpServerResponse.setHeaders({ "cache-control": "no-store", "referrer-policy": "no-referrer" })

export const loginPagesHandlers = HttpApiBuilder.group(ClientApi, "loginPages", (handlers) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const { minPasswordLength } = yield* LoginConfig
    const flows = yield* LoginFlows
    const sso = yield* SsoLogins
    const limit = yield* RateLimit
    const publicUrl = yield* PublicUrl

    const asPage = (
      request: HttpServerRequest.HttpServerRequest,
      effect: Effect.Effect<HttpServerResponse.HttpServerResponse, MatrixError>
    ) =>
      Effect.andThen(
        limit.takeFrom("anonymous", addressOf(request)),
        wantsPage(request) ? Effect.catch(effect, (error) => Effect.succeed(errorPage(error))) : effect
      )

    /** A page if the fallback page began the login, else JSON. */
    const answerReturn = ({ page, purpose, result }: OAuth2Return) => {
      if (page && purpose !== "link") {
        return Effect.succeed(fallbackPage({ purpose, serverName, minPasswordLength, result }))
      }
      return "error" in result
        ? Effect.fail(result.error)
        : Effect.succeed(noStore(HttpServerResponse.jsonUnsafe(result.answer)))
    }

    return handlers
      .handle("emailLink", ({ query: { token = "" }, request }) =>
        asPage(
          request,
          Effect.map(flows.emailLink(token), (link) =>
            link.confirmed ? confirmedPage : emailLinkPage(link, token, serverName)
          )
        )
      )
      .handle("confirmEmail", ({ query: { token = "" }, request }) =>
        asPage(request, Effect.as(flows.confirmEmail(token), confirmedPage))
      )
      .handle("services", ({ query: { ticket = "" }, request }) =>
        asPage(
          request,
          Effect.map(flows.services(ticket), (selection) => servicesPage(selection, ticket, serverName))
        )
      )
      .handle("authorize", ({ query: { provider = "", ticket = "" }, request }) =>
        asPage(
          request,
          Effect.map(flows.selectService(ticket, provider, publicUrl.get()), (uri) =>
            noStore(HttpServerResponse.redirect(uri, { status: 303 }))
          )
        )
      )
      .handle(
        "callback",
        ({ request }) =>
          Effect.gen(function* () {
            yield* limit.takeFrom("anonymous", addressOf(request))
            const back = {
              query: queryOf(request.url),
              browserSecret: browserSecretOf(request),
              publicUrl: publicUrl.get()
            }
            const single = yield* Effect.result(sso.comeBack(back))
            if (Result.isFailure(single)) return errorPage(single.failure)
            if (Option.isSome(single.success)) return ssoAnswer(single.success.value, serverName)
            return yield* answerReturn(yield* flows.callback(back))
          }),
        { uninterruptible: true }
      )
  })
)
