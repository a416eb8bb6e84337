/**
 * Login and logout.
 *
 * Source: "Registration and login" of the draft.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "./Authentication.ts"
import { Done, OptionalObject } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { HtmlPage } from "./HtmlPage.ts"
import { LoginAnswer, LoginFlows, LoginStage } from "./LoginFlow.ts"

export class LoginApi extends HttpApiGroup.make("login")
  .add(
    HttpApiEndpoint.get("flows", "/login", { success: LoginFlows }).annotateMerge(
      documented({ summary: "The login flows", who: "anyone" })
    ),
    HttpApiEndpoint.post("login", "/login", { payload: LoginStage, success: LoginAnswer }).annotateMerge(
      documented({
        summary: "Log in",
        text:
          'A stage, such as `{"type": "m.login.password", "user": "alice", "password": "..."}`; `user` is a ' +
          "whole user ID or a localpart. The answer has credentials, or the `next` stage and the `session` to send " +
          "with it. Errors: M_FORBIDDEN, M_LOGIN_EMAIL_URL_NOT_YET, M_LIMIT_EXCEEDED.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("fallback", "/login/fallback", { success: HtmlPage }).annotateMerge(
      documented({
        summary: "A page for login",
        text: "Performs the entire login and hands the result to the page that opened it.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.post("logout", "/logout", { payload: OptionalObject, success: Done })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "End the access token", who: "the user" })),
    HttpApiEndpoint.post("logoutAll", "/logout/all", { payload: OptionalObject, success: Done })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "End every access token of the user", who: "the user" })),
    HttpApiEndpoint.post("logoutOthers", "/logout/others", { payload: OptionalObject, success: Done })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "End every access token of the user but this one", who: "the user" }))
  )
  .annotateMerge(
    OpenApi.annotations({
      title: "Login",
      description: "Access tokens are sent as the query parameter `access_token` or as `Authorization: Bearer`."
    })
  ) {}
