/**
 * The login of a browser, for the pages of the OAuth 2.0 API: by password, or by an account that is registered on the page. A cookie
 * that other sites cannot use identifies the browser afterwards.
 */
import type { VerifiedUser } from "@greenroom/actors/account/Credentials"
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { loginDefaults } from "@greenroom/actors/account/login/LoginOptions"
import { BrowserSessions, type BrowserUser } from "@greenroom/actors/account/oauth/BrowserSessions"
import type { Question } from "@greenroom/actors/account/oauth/OAuthRequests"
import { PasswordCheck } from "@greenroom/actors/account/PasswordCheck"
import { Registration } from "@greenroom/actors/account/Registration"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect, Option, Redacted } from "effect"
import type { HttpServerRequest } from "effect/http"
import { oauthLoginPage, oauthRegisterPage } from "../pages/OAuthPage.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { cookieOf, type Params, queryOf, redirectAnswer, withCookie } from "./OAuthForms.ts"

type Request = HttpServerRequest.HttpServerRequest

const self = (query: Params, more: Record<string, string> = {}): string =>
  `?${new URLSearchParams({ ...Object.fromEntries(query), ...more })}`

/** A user who has logged in, with the hash of the password where one was verified. */
type ShownUser = Pick<VerifiedUser, "userId"> & Partial<VerifiedUser>

/** A step on a page. Its error is shown on the page. */
type Attempt<A> = Effect.Effect<A, MatrixError>

export const makeBrowserLogins = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const { minPasswordLength = loginDefaults.minPasswordLength } = yield* LoginConfig
  const browsers = yield* BrowserSessions
  const interactive = yield* InteractiveAuth
  const passwords = yield* PasswordCheck
  const registration = yield* Registration
  const limit = yield* RateLimit
  const publicUrl = yield* PublicUrl

  const sessionOf = Effect.fnUntraced(function* (request: Request) {
    const secret = cookieOf(request)
    return secret === undefined ? undefined : Option.getOrUndefined(yield* browsers.userOf(secret))
  })

  const browserUserOf = (request: Request): Effect.Effect<BrowserUser | undefined> =>
    Effect.map(sessionOf(request), (session) => session?.user)

  const userOf = (request: Request): Effect.Effect<UserId | undefined> =>
    Effect.map(browserUserOf(request), (user) => user?.userId)

  /** One stage is enough to register on the page. */
  const registrationStage = interactive.registrationFlows.find(
    ([first, second]) => second === undefined && (first === "m.login.dummy" || first === "m.login.registration_token")
  )?.[0]

  const logIn = (request: Request, form: Params): Attempt<ShownUser> => {
    const user = form.get("user") ?? ""
    const check = passwords.check(user, Redacted.make(form.get("password") ?? ""), addressOf(request))
    return Effect.andThen(limit.takeFrom("logins", addressOf(request), user), check)
  }

  const register = Effect.fnUntraced(function* (
    request: Request,
    form: Params
  ): Effect.fn.Return<ShownUser, MatrixError> {
    const address = addressOf(request)
    yield* limit.takeFrom("registrations", address)
    const made = yield* Effect.catchTag(
      registration.register({
        username: form.get("user") ?? "",
        password: Redacted.make(form.get("password") ?? ""),
        inhibitLogin: true,
        auth: { type: registrationStage ?? "", token: form.get("token") ?? "" },
        address
      }),
      "InteractionRequired",
      ({ reason }) => Effect.fail(reason ?? new Forbidden({ error: "This page cannot register accounts" }))
    )
    return { userId: made.user_id }
  })

  /** The login page. */
  const askForLogin = (
    query: Params,
    question?: Question,
    more: { readonly error?: string; readonly user?: string } = {}
  ) => {
    const wanted = query.get("register") ?? (question?.create ? "1" : "0")
    const options = { serverName, question, ...more }
    if (wanted === "1" && registrationStage !== undefined) {
      const byToken = registrationStage === "m.login.registration_token"
      return oauthRegisterPage({ ...options, byToken, minPasswordLength, loginAt: self(query, { register: "0" }) })
    }
    const registerAt = registrationStage === undefined ? undefined : self(query, { register: "1" })
    return oauthLoginPage({ ...options, registerAt })
  }

  /** Logs the browser in, and shows the page again. */
  const startSession = (request: Request, form: Params, attempt: Attempt<ShownUser>, question?: Question) => {
    const query = queryOf(request)
    return attempt.pipe(
      Effect.flatMap(({ passwordHash, userId }) => browsers.begin(userId, addressOf(request), passwordHash)),
      Effect.match({
        onSuccess: (secret) => withCookie(redirectAnswer(self(query)), secret, publicUrl.get()),
        onFailure: ({ error }) => askForLogin(query, question, { error, user: form.get("user") ?? "" })
      })
    )
  }

  const logOut = Effect.fnUntraced(function* (request: Request) {
    const secret = cookieOf(request)
    if (secret !== undefined) yield* browsers.end(secret)
    return withCookie(redirectAnswer(self(queryOf(request))), undefined, publicUrl.get())
  })

  return { sessionOf, browserUserOf, userOf, logIn, register, askForLogin, startSession, logOut }
})

export type BrowserLogins = Effect.Success<typeof makeBrowserLogins>
