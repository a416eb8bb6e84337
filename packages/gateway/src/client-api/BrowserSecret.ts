/**
 * The cookie that identifies a browser when it comes back from an OAuth2 provider. The fallback page's request sets it.
 * Without it, an attacker could have another person's browser finish a login that the attacker began.
 */
import type { FlowAnswer } from "@greenroom/actors/account/login/LoginFlows"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import type { LoginAnswer } from "@greenroom/protocol/api/LoginFlow"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { secretCookie } from "../SecretCookie.ts"

const cookieName = "greenroom_login"

/** How long the browser keeps the cookie, in seconds: longer than any login takes. */
const maxAge = 3_600

/** The cookie by which the browser keeps a secret, also for pages of `/_greenroom`. */
export const setBrowserSecret = (browserSecret: string, publicUrl: string, path = "/"): string =>
  secretCookie({ name: cookieName, path, maxAge }, browserSecret, publicUrl)

/** The answer, with the secret for the browser if there is one. */
export const withBrowserSecret = (
  { answer, browserSecret }: FlowAnswer,
  publicUrl: string
): LoginAnswer | HttpServerResponse.HttpServerResponse => {
  if (browserSecret === undefined) return answer
  return HttpServerResponse.setHeader(
    HttpServerResponse.jsonUnsafe(answer),
    "set-cookie",
    setBrowserSecret(browserSecret, publicUrl, `${clientPrefix}/`)
  )
}

/** The secret that the browser keeps in its cookie. */
export const browserSecretOf = (request: HttpServerRequest.HttpServerRequest): string | undefined =>
  request.cookies[cookieName]
