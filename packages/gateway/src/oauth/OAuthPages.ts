/**
 * The pages of the OAuth 2.0 API, as calls of `OAuthServer`, `BrowserSessions`, `Registration` and `Accounts`. A browser logs
 * in once, and a cookie that other sites cannot use identifies it afterwards.
 *
 * Source: "OAuth 2.0 API" of the client-server specification.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { loginDefaults } from "@greenroom/actors/account/login/LoginOptions"
import { BrowserSessions } from "@greenroom/actors/account/oauth/BrowserSessions"
import type { OAuthError } from "@greenroom/actors/account/oauth/OAuthError"
import type { Question, Reference } from "@greenroom/actors/account/oauth/OAuthRequests"
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { PasswordCheck } from "@greenroom/actors/account/PasswordCheck"
import { Registration } from "@greenroom/actors/account/Registration"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, type LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect, Option, Redacted } from "effect"
import { HttpRouter, HttpServerRequest, type HttpServerResponse } from "effect/http"
import { withServices } from "../client-api/EndpointServices.ts"
import {
  accountPage,
  consentPage,
  deactivatePage,
  keysResetPage,
  oauthLoginPage,
  oauthRegisterPage,
  refusedRequestPage,
  userCodePage
} from "../pages/OAuthPage.ts"
import { messagePage } from "../pages/Page.ts"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "../TrustedProxies.ts"
import { cookieOf, formOf, isForeign, type Params, paths, queryOf, redirectAnswer, withCookie } from "./OAuthForms.ts"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

const stopped = (text: string, status = 400): Response =>
  messagePage({ title: "This request cannot continue", text, status })

const linked = messagePage({ title: "Your device is linked", text: "You can close this page and go back to it." })
const refused = messagePage({ title: "Refused", text: "Nothing was linked. You can close this page." })
const foreign = stopped("The form came from another site. Open the page again.", 403)
const deactivatedPage = messagePage({ title: "Your account is gone", text: "You can close this page." })

const referenceOf = (query: Params): Reference | undefined => {
  const [id, userCode] = [query.get("id"), query.get("user_code")]
  if (id !== null) return { id }
  return userCode === null ? undefined : { userCode }
}

const self = (query: Params, more: Record<string, string> = {}): string =>
  `?${new URLSearchParams({ ...Object.fromEntries(query), ...more })}`

/** A step on a page. Its error is shown on the page. */
type Attempt<A> = Effect.Effect<A, MatrixError>

export const oauthPages = HttpRouter.use((router) =>
  withServices(function* () {
    const oauth = yield* OAuthServer
    if (oauth.mode === "off") return
    const { serverName } = yield* HomeServerConfig
    const { minPasswordLength = loginDefaults.minPasswordLength } = yield* LoginConfig
    const accounts = yield* Accounts
    const browsers = yield* BrowserSessions
    const interactive = yield* InteractiveAuth
    const passwords = yield* PasswordCheck
    const registration = yield* Registration
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    const publicUrl = yield* PublicUrl

    // --- Logging in -------------------------------------------------------------------------------------------------------

    const userOf = (request: Request): Effect.Effect<UserId | undefined> => {
      const secret = cookieOf(request)
      return secret === undefined
        ? Effect.succeed(undefined)
        : Effect.map(browsers.userOf(secret), Option.getOrUndefined)
    }

    /** One stage is enough to register on the page. */
    const registrationStage = interactive.registrationFlows.find(
      ([first, second]) => second === undefined && (first === "m.login.dummy" || first === "m.login.registration_token")
    )?.[0]

    const logIn = (request: Request, form: Params): Attempt<UserId> => {
      const user = form.get("user") ?? ""
      return Effect.andThen(
        limit.takeFrom("logins", addressOf(request), user),
        passwords.check(user, Redacted.make(form.get("password") ?? ""), addressOf(request))
      )
    }

    const register = Effect.fnUntraced(function* (
      request: Request,
      form: Params
    ): Effect.fn.Return<UserId, MatrixError> {
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
      return made.user_id
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
    const startSession = (request: Request, form: Params, attempt: Attempt<UserId>, question?: Question) => {
      const query = queryOf(request)
      return attempt.pipe(
        Effect.flatMap((userId) => browsers.begin(userId, addressOf(request))),
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

    const page = (answer: (request: Request) => Effect.Effect<Response, OAuthError | LimitExceeded>) =>
      HttpServerRequest.HttpServerRequest.use((request) =>
        limit.takeFrom("anonymous", addressOf(request)).pipe(
          Effect.andThen(
            request.method === "POST" && isForeign(request, publicUrl.get()) ? Effect.succeed(foreign) : answer(request)
          ),
          Effect.catchTag("OAuthError", ({ description }) => Effect.succeed(stopped(description))),
          Effect.catchTag("M_LIMIT_EXCEEDED", ({ error }) => Effect.succeed(stopped(error, 429)))
        )
      )

    // --- Letting a client in ----------------------------------------------------------------------------------------------

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
              const userId = yield* userOf(request)
              if (userId === undefined) return askForLogin(queryOf(request), question)
              const location = yield* oauth.approve(reference, userId)
              return location === undefined ? linked : redirectAnswer(location)
            }
            default:
              return stopped("The form names no known action.")
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

    // --- The account ------------------------------------------------------------------------------------------------------

    const account = Effect.fnUntraced(function* (
      request: Request,
      userId: UserId,
      more: { readonly done?: string; readonly error?: string } = {}
    ) {
      const query = queryOf(request)
      switch (query.get("action")) {
        case "org.matrix.cross_signing_reset":
          return keysResetPage(serverName, userId)
        case "org.matrix.account_deactivate":
          return deactivatePage(serverName, userId, more.error)
        default: {
          const devices = yield* accounts.devicesOf(userId)
          return accountPage({ serverName, userId, devices, deviceId: query.get("device_id") ?? undefined, ...more })
        }
      }
    })

    const showAccount = page((request) =>
      Effect.flatMap(userOf(request), (userId) =>
        userId === undefined ? Effect.succeed(askForLogin(queryOf(request))) : account(request, userId)
      )
    )

    const deactivate = (request: Request, form: Params, userId: UserId) =>
      logIn(request, new URLSearchParams({ user: userId, password: form.get("password") ?? "" })).pipe(
        Effect.andThen(accounts.deactivate(userId)),
        Effect.andThen(sockets.closeUser(userId)),
        Effect.matchEffect({
          onSuccess: () => Effect.succeed(withCookie(deactivatedPage, undefined, publicUrl.get())),
          onFailure: ({ error }) => account(request, userId, { error })
        })
      )

    const endDevice = (request: Request, form: Params, userId: UserId) =>
      accounts.logoutDevice(userId, form.get("device_id") ?? "").pipe(
        Effect.tap((ended) => Effect.forEach(ended, sockets.closeToken, { discard: true })),
        Effect.matchEffect({
          onSuccess: () => account(request, userId, { done: "The device is logged out." }),
          onFailure: ({ error }) => account(request, userId, { error })
        })
      )

    const changeAccount = page((request) =>
      Effect.gen(function* () {
        const form = yield* formOf(request)
        const action = form.get("action")
        if (action === "login") return yield* startSession(request, form, logIn(request, form))
        if (action === "register") return yield* startSession(request, form, register(request, form))
        if (action === "logout") return yield* logOut(request)
        const userId = yield* userOf(request)
        if (userId === undefined) return askForLogin(queryOf(request))
        switch (action) {
          case "end_device":
            return yield* endDevice(request, form, userId)
          case "deactivate":
            return yield* deactivate(request, form, userId)
          case "allow_keys_reset":
            yield* oauth.allowKeysReset(userId)
            return messagePage({ title: "The reset is allowed", text: "Go back to your client and continue there." })
          default:
            return stopped("The form names no known action.")
        }
      })
    )

    yield* router.add("GET", paths.authorise, begin)
    yield* router.add("GET", paths.page, ask)
    yield* router.add("POST", paths.page, decide)
    yield* router.add("GET", paths.link, link)
    yield* router.add("GET", paths.account, showAccount)
    yield* router.add("POST", paths.account, changeAccount)
  })
)
