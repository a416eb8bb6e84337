/**
 * The addresses of an account (third-party IDs), validating them, and the password, which is reset by them.
 *
 * Source: "Account management" and "Adding Account Administrative Contact Information" of the client-server
 * specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication } from "../api/Authentication.ts"
import { body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { HtmlPage } from "../api/HtmlPage.ts"
import { boundedText } from "../api/Parameters.ts"
import { Medium } from "../identity/ThirdPartyId.ts"
import { ClientSecret, SessionId, SessionProof } from "../identity/ValidationApi.ts"
import { Integer } from "../Json.ts"
import { ThirdPartyIdAuthFailed } from "../MatrixError.ts"
import { wire } from "../WireErrorClass.ts"
import { interactive, OptionalAuth } from "./Auth.ts"
import { Password } from "./LoginApi.ts"

const sendAttempt = Integer.check(Schema.isBetween({ minimum: 0, maximum: 2_147_483_647 }))
const optionalText = (most: number) => Schema.optionalKey(Schema.NullOr(boundedText(most)))

const tokenRequest = {
  client_secret: ClientSecret,
  send_attempt: sendAttempt.annotate({ description: "A higher number than before sends another message" }),
  next_link: optionalText(2_048)
}

const RequestEmail = Schema.Struct({ ...tokenRequest, email: boundedText(320) }).annotate({
  identifier: "RequestEmailValidation"
})

const RequestPhone = Schema.Struct({
  ...tokenRequest,
  phone_number: boundedText(64),
  country: Schema.optionalKey(Schema.NullOr(Schema.String.check(Schema.isPattern(/^[A-Z]{2}$/)))).annotate({
    examples: ["GB"]
  })
}).annotate({ identifier: "RequestPhoneValidation" })

const Begun = body(
  Schema.Struct({
    sid: Schema.String,
    submit_url: Schema.optionalKey(
      Schema.String.annotate({ description: "The URL at which the client submits the code of the text message" })
    )
  }).annotate({ identifier: "BegunValidation" })
)

const messageErrors =
  "The answer is the same whether an email address belongs to an account or not. Errors: M_INVALID_PARAM, " +
  "M_LIMIT_EXCEEDED, M_THREEPID_MEDIUM_NOT_SUPPORTED; where an identity server validates, or where the operator wants it, also " +
  "M_THREEPID_IN_USE and M_THREEPID_NOT_FOUND."

const email = <const Name extends string, const Path extends `/${string}`>(name: Name, path: Path, purpose: string) =>
  HttpApiEndpoint.post(name, path, { payload: RequestEmail, success: Begun }).annotateMerge(
    documented({
      summary: `Validate an email address, ${purpose}`,
      text: messageErrors,
      who: "anyone, at a limited rate"
    })
  )

const phone = <const Name extends string, const Path extends `/${string}`>(name: Name, path: Path, purpose: string) =>
  HttpApiEndpoint.post(name, path, { payload: RequestPhone, success: Begun }).annotateMerge(
    documented({
      summary: `Validate a phone number, ${purpose}`,
      text: messageErrors,
      who: "anyone, at a limited rate"
    })
  )

export class AddressValidationApi extends HttpApiGroup.make("clientServer.addressValidation")
  .add(
    email("emailToRegister", "/v3/register/email/requestToken", "to register"),
    phone("phoneToRegister", "/v3/register/msisdn/requestToken", "to register"),
    email("emailForPassword", "/v3/account/password/email/requestToken", "to set a new password"),
    phone("phoneForPassword", "/v3/account/password/msisdn/requestToken", "to set a new password"),
    email("emailToAdd", "/v3/account/3pid/email/requestToken", "to add it"),
    phone("phoneToAdd", "/v3/account/3pid/msisdn/requestToken", "to add it")
  )
  .annotateMerge(OpenApi.annotations({ title: "Validation of addresses" })) {}

const secret = Schema.optionalKey(Schema.String.check(Schema.isMaxLength(128)))

/** The path of the links in mails: one of this server's own. */
export class AddressPagesApi extends HttpApiGroup.make("clientServer.addressPages")
  .add(
    HttpApiEndpoint.get("link", "/_greenroom/validate/email", {
      query: { sid: secret, token: secret },
      success: HtmlPage
    }).annotateMerge(
      documented({
        summary: "The page of the link in a mail",
        text: "A page with a button. Opening it confirms nothing. Errors: M_NOT_FOUND.",
        who: "anyone with the link"
      })
    ),
    HttpApiEndpoint.post("confirm", "/_greenroom/validate/email", {
      query: { sid: secret, token: secret },
      success: HtmlPage
    }).annotateMerge(
      documented({ summary: "The button of that page", text: "Errors: M_NOT_FOUND.", who: "anyone with the link" })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Pages of mails" })) {}

/** A new password, also for a user without a session who proves the ownership of an address of the account. */
export class PasswordApi extends HttpApiGroup.make("clientServer.password")
  .add(
    HttpApiEndpoint.post("change", "/v3/account/password", {
      payload: Schema.Struct({
        new_password: Password,
        logout_devices: Schema.optionalKey(
          Schema.Boolean.annotate({ description: "Whether every other device is logged out", default: true })
        ),
        auth: OptionalAuth
      }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Change the password",
        text: `${interactive} Errors: M_WEAK_PASSWORD, M_FORBIDDEN.`,
        who: "the user; without an access token, anyone who proves that an address of the account is theirs"
      })
    )
  )
  .middleware(OptionalAuthentication)
  .annotateMerge(OpenApi.annotations({ title: "Password" })) {}

const Address = { medium: Medium, address: boundedText(320) }
const idServer = { id_server: Schema.optionalKey(boundedText(255)) }

/** A session of an identity server, or of this one. */
const Credentials = Schema.Struct({ ...SessionProof.fields, ...idServer })

const Unbound = body(
  Schema.Struct({ id_server_unbind_result: Schema.Literals(["success", "no-support"]) }).annotate({
    identifier: "Unbound"
  })
)

const themselves = "the user"

export class ThirdPartyIdApi extends HttpApiGroup.make("clientServer.thirdPartyIds")
  .add(
    HttpApiEndpoint.get("list", "/v3/account/3pid", {
      success: body(
        Schema.Struct({
          threepids: Schema.Array(
            Schema.Struct({
              ...Address,
              validated_at: Schema.Int.annotate({ description: "Milliseconds since 1970" }),
              added_at: Schema.Int.annotate({ description: "Milliseconds since 1970" })
            })
          )
        })
      )
    }).annotateMerge(documented({ summary: "The addresses of the account", who: themselves })),
    HttpApiEndpoint.post("addOld", "/v3/account/3pid", {
      payload: Schema.Struct({ three_pid_creds: Credentials }),
      success: Done,
      error: wire(ThirdPartyIdAuthFailed, 403)
    }).annotateMerge(
      documented({
        summary: "Add an address, as older clients do",
        text: "Errors: M_THREEPID_AUTH_FAILED, M_THREEPID_IN_USE.",
        who: themselves
      })
    ),
    HttpApiEndpoint.post("add", "/v3/account/3pid/add", {
      payload: Schema.Struct({ sid: SessionId, client_secret: ClientSecret, auth: OptionalAuth }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Add an address that was validated",
        text: `${interactive} Errors: M_THREEPID_AUTH_FAILED, M_THREEPID_IN_USE.`,
        who: themselves
      })
    ),
    HttpApiEndpoint.post("bind", "/v3/account/3pid/bind", {
      payload: Schema.Struct({
        ...Credentials.fields,
        id_access_token: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(4_096)))
      }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Let others find the user by an address",
        text: "By an identity server that this server trusts; with `id_access_token` by version 2 of its API. Errors: M_SERVER_NOT_TRUSTED, M_FORBIDDEN, M_THREEPID_AUTH_FAILED.",
        who: themselves
      })
    ),
    HttpApiEndpoint.post("unbind", "/v3/account/3pid/unbind", {
      payload: Schema.Struct({ ...Address, ...idServer }),
      success: Unbound
    }).annotateMerge(documented({ summary: "Stop letting others find the user by an address", who: themselves })),
    HttpApiEndpoint.post("delete", "/v3/account/3pid/delete", {
      payload: Schema.Struct({ ...Address, ...idServer }),
      success: Unbound
    }).annotateMerge(documented({ summary: "Remove an address", text: "Errors: M_NOT_FOUND.", who: themselves }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Addresses of the account" })) {}
