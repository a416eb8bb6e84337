/**
 * Registration by a shared secret, where Synapse's tools and public test suites look for it.
 *
 * Source: "Shared-Secret Registration" of Synapse's administration API.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { LoggedIn, Password } from "./LoginApi.ts"

export class SharedSecretApi extends HttpApiGroup.make("clientServer.sharedSecret")
  .add(
    HttpApiEndpoint.get("nonce", "/_synapse/admin/v1/register", {
      success: body(Schema.Struct({ nonce: Schema.String }))
    }).annotateMerge(
      documented({ summary: "A nonce for one registration", who: "anyone, where a secret is configured" })
    ),
    HttpApiEndpoint.post("register", "/_synapse/admin/v1/register", {
      payload: Schema.Struct({
        nonce: boundedText(255),
        username: boundedText(255),
        password: Password,
        displayname: Schema.optionalKey(Schema.NullOr(boundedText(255))),
        admin: Schema.optionalKey(Schema.Boolean),
        user_type: Schema.optionalKey(Schema.NullOr(boundedText(64))),
        inhibit_login: Schema.optionalKey(Schema.Boolean),
        mac: boundedText(255)
      }),
      success: LoggedIn
    }).annotateMerge(
      documented({
        summary: "Register by the shared secret",
        text: "Errors: M_FORBIDDEN, M_INVALID_PARAM, M_USER_IN_USE, M_INVALID_USERNAME.",
        who: "clients that know the secret"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Registration by a shared secret" })) {}
