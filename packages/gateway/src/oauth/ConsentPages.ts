/**
 * The pages on which a user lets a client in: by the authorization code flow, or by the code of a device.
 */
import type { OAuthError } from "@greenroom/actors/account/oauth/OAuthError"
import type { Question, Reference } from "@greenroom/actors/account/oauth/OAuthRequests"
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { Effect, Option } from "effect"
import type { HttpServerRequest, HttpServerResponse } from "effect/http"
import { consentPage, refusedRequestPage, userCodePage } from "../pages/OAuthPage.ts"
import { messagePage } from "../pages/Page.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import type { BrowserLogins } from "./BrowserLogins.ts"
import { formOf, type Params, paths, queryOf, redirectAnswer } from "./OAuthForms.ts"
import { type MakePage, unknownAction } from "./OAuthPageAnswer.ts"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

const linked = messagePage({ title: "Your device is linked", text: "You can close this page and go back to it." })
const refused = messagePage({ title: "Refused", text: "Nothing was linked. You can close this page." })

const referenceOf = (query: Params): Reference | undefined => {
  const [id, userCode] = [query.get("id"), query.get("user_code")]
  if (id !== null) return { id }
  return userCode === null ? undefined : { userCode }
}

export const makeConsentPages = Effect.fnUntraced(function* (
  page: MakePage,
  { askForLogin, browserUserOf, logIn, logOut, register, startSession, userOf }: BrowserLogins
) {
  const { serverName } = yield* HomeServerConfig
  const oauth = yield* OAuthServer
  const limit = yield* RateLimit

  const begin = page((request) =>
    Effect.map(oauth.authorise(queryOf(request), addressOf(request)), (begun) =>
      "refused" in begun ? refusedRequestPage(begun.refused) : redirectAnswer(`${paths.page}?id=${begun.id}`)
    )
  )

  /** Device codes are short and could be guessed, so a request with one counts as a login. */
  const countGuess = (request: Request, reference: Reference) =>
    "userCode" in reference ? limit.takeFrom("logins", addressOf(request)) : Effect.void

  const withQuestion = (
    request: Request,
    use: (reference: Reference, question: Question) => Effect.Effect<Response, OAuthError>
  ) => {
    const reference = referenceOf(queryOf(request))
    if (reference === undefined) return Effect.succeed(userCodePage(serverName))
    return Effect.flatMap(Effect.andThen(countGuess(request, reference), oauth.question(reference)), (question) =>
      use(reference, question)
    )
  }

  const ask = page((request) =>
    withQuestion(request, (_, question) =>
      Effect.map(userOf(request), (userId) =>
        userId === undefined ? askForLogin(queryOf(request), question) : consentPage(question, userId, serverName)
      )
    )
  )

  const decide = page((request) =>
    withQuestion(request, (reference, question) =>
      Effect.gen(function* () {
        const form = yield* formOf(request)
        switch (form.get("action")) {
          case "login":
            return yield* startSession(request, form, logIn(request, form), question)
          case "register":
            return yield* startSession(request, form, register(request, form), question)
          case "logout":
            return yield* logOut(request)
          case "refuse": {
            const location = yield* oauth.refuse(reference)
            return location === undefined ? refused : redirectAnswer(location)
          }
          case "approve": {
            const user = yield* browserUserOf(request)
            if (user === undefined) return askForLogin(queryOf(request), question)
            const location = yield* oauth.approve(reference, user)
            return location === undefined ? linked : redirectAnswer(location)
          }
          default:
            return unknownAction
        }
      })
    )
  )

  /** The form for the code of a device. */
  const link = page((request) =>
    Effect.gen(function* () {
      const query = queryOf(request)
      const code = query.get("user_code")
      if (code === null) return userCodePage(serverName)
      yield* countGuess(request, { userCode: code })
      const found = yield* Effect.option(oauth.question({ userCode: code }))
      return Option.isSome(found)
        ? redirectAnswer(`${paths.page}?${new URLSearchParams({ user_code: code })}`)
        : userCodePage(serverName, "The code is wrong, was used, or has expired.")
    })
  )

  return { begin, ask, decide, link }
})
