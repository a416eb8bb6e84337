/**
 * Registration and deactivation of accounts.
 *
 * Source: "Registration and login" of the draft.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "./Authentication.ts"
import { Done, OptionalObject } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { HtmlPage } from "./HtmlPage.ts"
import { LoginAnswer, LoginFlows, LoginStage } from "./LoginFlow.ts"

export class RegistrationApi extends HttpApiGroup.make("registration")
  .add(
    HttpApiEndpoint.get("flows", "/register", { success: LoginFlows }).annotateMerge(
      documented({ summary: "The registration flows", who: "anyone" })
    ),
    HttpApiEndpoint.post("register", "/register", { payload: LoginStage, success: LoginAnswer }).annotateMerge(
      documented({
        summary: "Register",
        text:
          'A stage, such as `{"type": "m.login.password", "user": "alice", "password": "..."}`. Without ' +
          '`user` the server allocates a user ID. The earliest form, `{"user_id", "password"}` without `type`, is ' +
          "accepted too. The answer has credentials, or the `next` stage and the `session` to send with it. Errors: " +
          "M_USER_IN_USE, M_INVALID_USERNAME, M_WEAK_PASSWORD for a password that is shorter than the operator wants, " +
          "M_FORBIDDEN where registration is closed.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("fallback", "/register/fallback", { success: HtmlPage }).annotateMerge(
      documented({
        summary: "A page for registration",
        text: "Performs the entire registration and hands the result to the page that opened it.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.post("unregister", "/unregister", { payload: OptionalObject, success: Done })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Deactivate the account",
          text: "Ends all its access tokens and its presence, and removes its profile and addresses. The user ID cannot be registered again.",
          who: "the user"
        })
      )
  )
  .annotateMerge(OpenApi.annotations({ title: "Registration", description: "Creating and deactivating accounts." })) {}
