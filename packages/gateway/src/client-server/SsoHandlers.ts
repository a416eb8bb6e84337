/**
 * Single sign-on, and the fallback pages of user-interactive authentication: calls of `SsoLogins` and `InteractiveAuth`.
 *
 * Source: "SSO client login/authentication" and "Fallback" of the client-server specification.
 */
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { type SsoBegun, SsoLogins, type SsoOutcome, type SsoTarget } from "@greenroom/actors/account/login/SsoLogins"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { browserSecretOf, setBrowserSecret } from "../client-api/BrowserSecret.ts"
import { withServices } from "../client-api/EndpointServices.ts"
import { formOf, paths, redirectAnswer } from "../oauth/OAuthForms.ts"
import { expiredPage } from "../pages/EmailLinkPage.ts"
import { fallbackPage } from "../pages/FallbackPage.ts"
import {
  chooseNamePage,
  goOnPage,
  hasStagePage,
  providersPage,
  stagePage,
  stagePassedPage,
  termsPage
} from "../pages/SsoPage.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

/** The client to which a login returns, and the page that its user wants to see first. */
interface Redirect {
  readonly redirectUrl: string
  readonly action?: "login" | "register" | undefined
}

/** The page for a browser that came back from a provider. */
export const ssoAnswer = (outcome: SsoOutcome, serverName: ServerName): Response => {
  if ("confirmed" in outcome) return stagePassedPage
  if ("chooseName" in outcome) return chooseNamePage(outcome.chooseName, serverName)
  return outcome.trusted ? redirectAnswer(outcome.location) : goOnPage(outcome.location, outcome.userId, serverName)
}

export const ssoHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.sso", (handlers) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const { terms = [] } = yield* LoginConfig
    const interactive = yield* InteractiveAuth
    const sso = yield* SsoLogins
    const limit = yield* RateLimit
    const publicUrl = yield* PublicUrl

    const answerBegun = (begun: SsoBegun, { action = "login", redirectUrl }: Redirect): Response => {
      if ("providers" in begun) return providersPage(begun.providers, redirectUrl, serverName)
      if ("byPage" in begun) {
        const query = new URLSearchParams({ redirectUrl, register: action === "register" ? "1" : "0" })
        return redirectAnswer(`${publicUrl.get()}${paths.sso}?${query}`, 302)
      }
      const cookie = setBrowserSecret(begun.browserSecret, publicUrl.get())
      return HttpServerResponse.setHeader(redirectAnswer(begun.uri, 302), "set-cookie", cookie)
    }

    const begin = (request: Request, target: SsoTarget & Partial<Redirect>, provider?: string) =>
      Effect.gen(function* () {
        const address = addressOf(request)
        yield* limit.takeFrom("anonymous", address)
        const begun = yield* sso.begin({ target, provider, address, publicUrl: publicUrl.get() })
        return answerBegun(begun, { redirectUrl: "", ...target })
      })

    const noPage = new NotFound({ error: "stage: this stage has no page" })

    return handlers
      .handle("redirect", ({ query, request }) => begin(request, query))
      .handle("redirectTo", ({ params, query, request }) => begin(request, query, params.idpId))
      .handle("fallback", ({ params: { stage }, query: { session }, request }) =>
        Effect.gen(function* () {
          yield* limit.takeFrom("anonymous", addressOf(request))
          if (!(yield* interactive.isUnderWay(session))) return expiredPage
          if (stage === "m.login.sso") return yield* begin(request, { interactive: session }, sso.providers[0]?.id)
          if (stage === "m.login.terms") return termsPage(serverName, terms)
          return hasStagePage(stage) ? stagePage({ serverName, stage }) : yield* noPage
        })
      )
      .handle("passStage", ({ params: { stage }, query: { session }, request }) =>
        Effect.gen(function* () {
          const address = addressOf(request)
          yield* limit.takeFrom("logins", address, session)
          if (stage !== "m.login.terms" && !hasStagePage(stage)) return yield* noPage
          const form = yield* formOf(request)
          return yield* Effect.match(
            interactive.passByForm(session, { ...Object.fromEntries(form), type: stage }, address),
            {
              onSuccess: () => stagePassedPage,
              onFailure: ({ error }) => stagePage({ serverName, stage, error })
            }
          )
        })
      )
  })
)

export const ssoPagesHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.ssoPages", (handlers) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const { minPasswordLength } = yield* LoginConfig
    const sso = yield* SsoLogins
    const limit = yield* RateLimit
    return handlers
      .handle("register", ({ query: { id }, request }) =>
        Effect.gen(function* () {
          yield* limit.takeFrom("registrations", addressOf(request))
          const user = (yield* formOf(request)).get("user") ?? ""
          return yield* Effect.match(sso.register(id, user, browserSecretOf(request)), {
            onSuccess: (outcome) => ssoAnswer(outcome, serverName),
            onFailure: ({ error }) => chooseNamePage(id, serverName, { error, user })
          })
        })
      )
      .handle("login", () => Effect.sync(() => fallbackPage({ purpose: "login", serverName, minPasswordLength })))
  })
)
