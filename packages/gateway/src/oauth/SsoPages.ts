/**
 * The pages on which a user logs in to a client that does not speak the OAuth 2.0 API: it gets a token for one login.
 *
 * Source: "OAuth 2.0 aware clients" of the client-server specification.
 */
import { SsoLogins } from "@greenroom/actors/account/login/SsoLogins"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import type { HttpServerRequest, HttpServerResponse } from "effect/http"
import { ssoConsentPage } from "../pages/OAuthPage.ts"
import type { BrowserLogins } from "./BrowserLogins.ts"
import { formOf, queryOf, redirectAnswer } from "./OAuthForms.ts"
import { type MakePage, stopped, unknownAction } from "./OAuthPageAnswer.ts"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

export const makeSsoPages = Effect.fnUntraced(function* (
  page: MakePage,
  { askForLogin, logIn, logOut, register, sessionOf, startSession }: BrowserLogins
) {
  const { serverName } = yield* HomeServerConfig
  const sso = yield* SsoLogins

  /** A page for a client at a URL that a browser can be sent to. */
  const forClient = (answer: (request: Request, redirectUrl: string) => Effect.Effect<Response, MatrixError>) =>
    page((request) => {
      const redirectUrl = queryOf(request).get("redirectUrl") ?? ""
      return Effect.andThen(sso.check(redirectUrl), answer(request, redirectUrl)).pipe(
        Effect.catch(({ error }) => Effect.succeed(stopped(error)))
      )
    })

  type BrowserSession = NonNullable<Effect.Success<ReturnType<typeof sessionOf>>>

  const goBack = ({ passwordHash, user }: BrowserSession, redirectUrl: string) =>
    Effect.map(sso.grant(user.userId, redirectUrl, passwordHash), ({ location }) => redirectAnswer(location))

  const ask = forClient((request, redirectUrl) =>
    Effect.gen(function* () {
      const session = yield* sessionOf(request)
      if (session === undefined) return askForLogin(queryOf(request))
      return sso.isTrusted(redirectUrl)
        ? yield* goBack(session, redirectUrl)
        : ssoConsentPage(new URL(redirectUrl), session.user.userId, serverName)
    })
  )

  const decide = forClient((request, redirectUrl) =>
    Effect.gen(function* () {
      const form = yield* formOf(request)
      switch (form.get("action")) {
        case "login":
          return yield* startSession(request, form, logIn(request, form))
        case "register":
          return yield* startSession(request, form, register(request, form))
        case "logout":
          return yield* logOut(request)
        case "approve": {
          const session = yield* sessionOf(request)
          return session === undefined ? askForLogin(queryOf(request)) : yield* goBack(session, redirectUrl)
        }
        default:
          return unknownAction
      }
    })
  )

  return { ask, decide }
})
