/**
 * Shared by the endpoints and pages of the OAuth 2.0 API: forms, answers, and the cookie of a browser.
 */

import { browserSessionTtl } from "@greenroom/actors/account/oauth/BrowserSessions"
import type { OAuthError } from "@greenroom/actors/account/oauth/OAuthError"
import { Effect } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { secretCookie } from "../SecretCookie.ts"

/** The prefix of the forms: a path outside of the Matrix APIs. */
const oauthPrefix = "/_greenroom"
export const paths = {
  registration: `${oauthPrefix}/oauth2/registration`,
  authorise: `${oauthPrefix}/oauth2/authorize`,
  page: `${oauthPrefix}/oauth2/continue`,
  sso: `${oauthPrefix}/oauth2/sso`,
  token: `${oauthPrefix}/oauth2/token`,
  revoke: `${oauthPrefix}/oauth2/revoke`,
  device: `${oauthPrefix}/oauth2/device`,
  keys: `${oauthPrefix}/oauth2/keys`,
  link: `${oauthPrefix}/link`,
  account: `${oauthPrefix}/account`
} as const

const cookieName = "greenroom_account"

/** A form has a few short fields. */
const maxFormLength = 64 * 1024

export type Params = URLSearchParams

/** The query of the request. */
export const queryOf = ({ url }: HttpServerRequest.HttpServerRequest): Params => {
  const start = url.indexOf("?")
  return new URLSearchParams(start === -1 ? "" : url.slice(start + 1))
}

const isForm = (text: string): boolean => text.length <= maxFormLength && !/%00|\0/.test(text)

/** The fields of the form that was posted. A form that is too long, or has U+0000 in it, counts as empty. */
export const formOf = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<Params> =>
  Effect.map(Effect.orDie(request.text), (text) => new URLSearchParams(isForm(text) ? text : ""))

const noStore = { "cache-control": "no-store", pragma: "no-cache", "referrer-policy": "no-referrer" }

export const jsonAnswer = (value: object, status = 200): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.setHeaders(HttpServerResponse.jsonUnsafe(value, { status }), noStore)

export const errorAnswer = ({ description, error }: OAuthError): HttpServerResponse.HttpServerResponse =>
  jsonAnswer({ error, error_description: description }, error === "invalid_client" ? 401 : 400)

/** The status is 303, after a POST too, if the specification has no other. */
export const redirectAnswer = (location: string, status: 302 | 303 = 303): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.setHeaders(HttpServerResponse.empty({ status }), { ...noStore, location })

export const cookieOf = (request: HttpServerRequest.HttpServerRequest): string | undefined =>
  request.cookies[cookieName]

/** Sets or removes the cookie with the secret of a browser session. */
export const withCookie = (
  response: HttpServerResponse.HttpServerResponse,
  secret: string | undefined,
  publicUrl: string
): HttpServerResponse.HttpServerResponse => {
  const maxAge = secret === undefined ? 0 : browserSessionTtl / 1_000
  const cookie = secretCookie({ name: cookieName, path: `${oauthPrefix}/`, maxAge }, secret ?? "", publicUrl)
  return HttpServerResponse.setHeader(response, "set-cookie", cookie)
}

/**
 * Whether a form was posted by a page of another site. Browsers name the origin of each form, and over HTTPS also its relation to
 * this site.
 */
export const isForeign = ({ headers }: HttpServerRequest.HttpServerRequest, publicUrl: string): boolean => {
  const { host, origin, "sec-fetch-site": site } = headers
  if (site !== undefined) return site !== "same-origin" && site !== "none"
  if (origin === undefined) return false
  const from = URL.parse(origin)
  return from === null || (from.host !== host && from.origin !== URL.parse(publicUrl)?.origin)
}
