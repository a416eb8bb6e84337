/**
 * Proving ownership of an address: the server sends a token there, and a client that submits it has
 * validated the session. Sessions are known by `sid` and by the `client_secret` that the client chose.
 *
 * Source: "Identity" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { HtmlPage } from "../api/HtmlPage.ts"
import { Integer } from "../Json.ts"
import { messageErrors, sessionErrors } from "./IdentityError.ts"
import { Medium } from "./ThirdPartyId.ts"

const limited = (most: number, description: string) =>
  Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(most)).annotate({ description })

/** The client's secret of the session. */
export const ClientSecret = Schema.String.check(
  Schema.isPattern(/^[0-9a-zA-Z.=_-]{1,255}$/, { expected: "1 to 255 letters, digits or any of . = _ -" })
).annotate({ description: "Chosen by the client: random, and never used for another session" })

const printable = (most: number, description: string) =>
  limited(most, description).check(Schema.isPattern(/^[!-~]*$/, { expected: "printable ASCII without spaces" }))

/** The server's ID of the session. */
export const SessionId = printable(255, "The `sid` that requestToken answered")

/** The proof of having read the message. */
export const Token = printable(255, "From the link in the mail, or the code of the text message")

const SendAttempt = Integer.check(Schema.isBetween({ minimum: 0, maximum: 2_147_483_647 })).annotate({
  description: "A higher number than before sends another message, the same one does not: repeats are safe"
})

const NextLink = printable(2_048, "A web page, by http or https, that the user may go on to after confirming")

/** The email address to validate. */
export const RequestEmailToken = Schema.Struct({
  client_secret: ClientSecret,
  email: limited(320, "The address to send a link to"),
  send_attempt: SendAttempt,
  next_link: Schema.optionalKey(NextLink)
}).annotate({ identifier: "RequestEmailToken" })
export type RequestEmailToken = typeof RequestEmailToken.Type

/** The phone number to validate. */
export const RequestMsisdnToken = Schema.Struct({
  client_secret: ClientSecret,
  phone_number: limited(64, "The number, in the form of `country`, else international with a leading +"),
  country: Schema.optionalKey(
    Schema.String.check(Schema.isPattern(/^[A-Z]{2}$/, { expected: "a country code of two capital letters" })).annotate(
      {
        description: "The country in which the number would be dialled so (ISO 3166-1 alpha-2)"
      }
    )
  ),
  send_attempt: SendAttempt,
  next_link: Schema.optionalKey(NextLink)
}).annotate({ identifier: "RequestMsisdnToken" })
export type RequestMsisdnToken = typeof RequestMsisdnToken.Type

/** The fields that name a session and prove that it is the caller's. */
export const SessionProof = Schema.Struct({ sid: SessionId, client_secret: ClientSecret })
export type SessionProof = typeof SessionProof.Type

const tokenKeys = { sid: SessionId, client_secret: ClientSecret, token: Token }

/** The token of a message, which validates its address. */
export const SubmitToken = Schema.Struct(tokenKeys).annotate({ identifier: "SubmitToken" })
export type SubmitToken = typeof SubmitToken.Type

/** The new session. `msisdn` is the number in its canonical form. */
export const BegunSession = body(
  Schema.Struct({ sid: Schema.String, msisdn: Schema.optionalKey(Schema.String) }).annotate({
    identifier: "BegunSession"
  })
)
export type BegunSession = typeof BegunSession.Type

/** Whether the address is validated. */
export const SubmittedToken = body(
  Schema.Struct({ success: Schema.Boolean }).annotate({ identifier: "SubmittedToken" })
)
export type SubmittedToken = typeof SubmittedToken.Type

const requestDoc =
  "A repeat with the same `send_attempt` sends nothing again. Errors: M_INVALID_ADDRESS, M_LIMIT_EXCEEDED, " +
  "M_THREEPID_MEDIUM_NOT_SUPPORTED, M_MESSAGE_SEND_ERROR."

const params = { medium: Medium }

export class ValidationApi extends HttpApiGroup.make("validation")
  .add(
    HttpApiEndpoint.post("requestEmailToken", "/validate/email/requestToken", {
      payload: RequestEmailToken,
      success: BegunSession,
      error: messageErrors
    }).annotateMerge(documented({ summary: "Send a link to an email address", text: requestDoc, who: "anyone" })),
    HttpApiEndpoint.post("requestMsisdnToken", "/validate/msisdn/requestToken", {
      payload: RequestMsisdnToken,
      success: BegunSession,
      error: messageErrors
    }).annotateMerge(documented({ summary: "Send a code to a phone number", text: requestDoc, who: "anyone" })),
    HttpApiEndpoint.post("submitToken", "/validate/:medium/submitToken", {
      params,
      payload: SubmitToken,
      success: SubmittedToken,
      error: sessionErrors
    }).annotateMerge(
      documented({
        summary: "Submit the token of the message",
        text:
          "Tokens are good once, for a limited time and a limited number of attempts. Errors: M_NO_VALID_SESSION, " +
          "M_TOKEN_INCORRECT, M_SESSION_EXPIRED.",
        who: "clients that have the client secret"
      })
    ),
    HttpApiEndpoint.get("confirmationPage", "/validate/:medium/submitToken", {
      params,
      query: tokenKeys,
      success: HtmlPage
    }).annotateMerge(
      documented({
        summary: "The page that the link leads to",
        text: "Confirms by a button: programs that only look at the links of a mail validate nothing.",
        who: "anyone with the link"
      })
    ),
    HttpApiEndpoint.post("confirm", "/validate/:medium/confirm", {
      params,
      query: tokenKeys,
      success: HtmlPage
    }).annotateMerge(
      documented({ summary: "The button of that page", text: "Answers with a page.", who: "anyone with the link" })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Validation", description: "Proving that an address is one's own." })) {}
