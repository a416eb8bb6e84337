/**
 * Login at a provider in a browser, and the pages on which a stage of user-interactive authentication is passed.
 *
 * Source: "SSO client login/authentication" and "Fallback" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { documented } from "../api/Documentation.ts"
import { HtmlPage } from "../api/HtmlPage.ts"
import { boundedText } from "../api/Parameters.ts"

const redirect = {
  redirectUrl: boundedText(2_048),
  action: Schema.optional(
    Schema.Literals(["login", "register"]).annotate({ description: "The page that the user wants to see first" })
  )
}
const stage = { params: { stage: boundedText(255) }, query: { session: boundedText(128) } }
const who = "anyone"

export class SsoApi extends HttpApiGroup.make("clientServer.sso")
  .add(
    HttpApiEndpoint.get("redirect", "/v3/login/sso/redirect", { query: redirect, success: HtmlPage }).annotateMerge(
      documented({
        summary: "Log in at a provider, or on the page of this server",
        text: "Redirects a browser there, which returns to `redirectUrl` with a `loginToken`. Errors: M_INVALID_PARAM, M_NOT_FOUND.",
        who
      })
    ),
    HttpApiEndpoint.get("redirectTo", "/v3/login/sso/redirect/:idpId", {
      params: { idpId: boundedText(255) },
      query: redirect,
      success: HtmlPage
    }).annotateMerge(
      documented({ summary: "Log in at one of several providers", text: "Errors: M_INVALID_PARAM, M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.get("fallback", "/v3/auth/:stage/fallback/web", { ...stage, success: HtmlPage }).annotateMerge(
      documented({
        summary: "A page for a stage of user-interactive authentication",
        text: "It notifies the window that opened it of the completion. Errors: M_NOT_FOUND.",
        who: "anyone with the session"
      })
    ),
    HttpApiEndpoint.post("passStage", "/v3/auth/:stage/fallback/web", { ...stage, success: HtmlPage }).annotateMerge(
      documented({ summary: "The form of that page", who: "anyone with the session" })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Single sign-on and fallback pages" })) {}

/** Pages beside the API. */
export class SsoPagesApi extends HttpApiGroup.make("clientServer.ssoPages")
  .add(
    HttpApiEndpoint.post("register", "/_greenroom/sso/register", {
      query: { id: Schema.String.check(Schema.isMaxLength(128)) },
      success: HtmlPage
    }).annotateMerge(documented({ summary: "The user name of a new account after a login at a provider", who })),
    HttpApiEndpoint.get("login", "/_matrix/static/client/login", { success: HtmlPage }).annotateMerge(
      documented({ summary: "A page that performs a whole login", text: "It calls `window.onLogin`.", who })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Pages of logins" })) {}
