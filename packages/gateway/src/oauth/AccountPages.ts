/**
 * The pages on which users manage their account: devices, the reset of cross-signing keys, deactivation.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { HttpServerRequest } from "effect/http"
import { accountPage, deactivatePage, keysResetPage } from "../pages/OAuthPage.ts"
import { messagePage } from "../pages/Page.ts"
import { Sockets } from "../socket/Sockets.ts"
import type { BrowserLogins } from "./BrowserLogins.ts"
import { formOf, type Params, queryOf, withCookie } from "./OAuthForms.ts"
import { type MakePage, unknownAction } from "./OAuthPageAnswer.ts"

type Request = HttpServerRequest.HttpServerRequest

const deactivatedPage = messagePage({ title: "Your account is gone", text: "You can close this page." })

export const makeAccountPages = Effect.fnUntraced(function* (
  page: MakePage,
  { askForLogin, logIn, logOut, register, startSession, userOf }: BrowserLogins
) {
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* Accounts
  const oauth = yield* OAuthServer
  const sockets = yield* Sockets
  const publicUrl = yield* PublicUrl

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
          return unknownAction
      }
    })
  )

  return { showAccount, changeAccount }
})
