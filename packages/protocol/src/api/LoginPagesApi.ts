/**
 * The pages on which people go on with a login in their browser: the link of a mail, the selection of a service, and the
 * way back from an OAuth2 provider.
 *
 * Source: "OAuth2-based" and "Email-based (url)" of "Registration and login" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { documented } from "./Documentation.ts"
import { HtmlPage } from "./HtmlPage.ts"
import { LoginAnswer } from "./LoginFlow.ts"

const secret = Schema.optionalKey(Schema.String.check(Schema.isMaxLength(128)))

export class LoginPagesApi extends HttpApiGroup.make("loginPages")
  .add(
    HttpApiEndpoint.get("emailLink", "/login/email/confirm", {
      query: { token: secret },
      success: HtmlPage
    }).annotateMerge(
      documented({
        summary: "The page of the link in a mail",
        text:
          "A page with a button. Opening it confirms nothing, since programs that scan mails open links too. " +
          "Errors: M_NOT_FOUND.",
        who: "anyone with the link"
      })
    ),
    HttpApiEndpoint.post("confirmEmail", "/login/email/confirm", {
      query: { token: secret },
      success: HtmlPage
    }).annotateMerge(
      documented({ summary: "The button of that page", text: "Errors: M_NOT_FOUND.", who: "anyone with the link" })
    ),
    HttpApiEndpoint.get("services", "/login/oauth2/services", {
      query: { ticket: secret },
      success: HtmlPage
    }).annotateMerge(
      documented({
        summary: "Select a service to log in with",
        text: "Errors: M_NOT_FOUND.",
        who: "anyone with the URI"
      })
    ),
    HttpApiEndpoint.get("authorize", "/login/oauth2/authorize", {
      query: { ticket: secret, provider: secret },
      success: HtmlPage
    }).annotateMerge(
      documented({
        summary: "Redirect to the selected service",
        text: "Redirects to the Authorization Request URI of the service. Errors: M_NOT_FOUND.",
        who: "anyone with the URI"
      })
    ),
    HttpApiEndpoint.get("callback", "/login/oauth2/callback", { success: LoginAnswer }).annotateMerge(
      documented({
        summary: "The redirect URI",
        text:
          "The redirect URI of the service, with `code` and `state`. The answer has credentials, the `next` stage and " +
          "a new `session`, or an error; for logins of the fallback page it is a page that continues them. Errors: M_FORBIDDEN.",
        who: "browsers that return from the service"
      })
    )
  )
  .annotateMerge(
    OpenApi.annotations({
      title: "Login pages",
      description: "The pages on which people continue a login in their browser."
    })
  ) {}
