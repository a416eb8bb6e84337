/**
 * The abilities of this server, which clients request first: versions of the specification, unstable features, capabilities,
 * and the address of the client API (`.well-known`).
 *
 * Source: "Server discovery" and "Capabilities negotiation" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"

/**
 * The versions of the specification that this server speaks, oldest first. From 1.11 on clients use authenticated media.
 * `docs/matrix.md` says which endpoints are served.
 */
export const specificationVersions = [
  "r0.5.0",
  "r0.6.0",
  "r0.6.1",
  "v1.1",
  "v1.2",
  "v1.3",
  "v1.4",
  "v1.5",
  "v1.6",
  "v1.7",
  "v1.8",
  "v1.9",
  "v1.10",
  "v1.11",
  "v1.12",
  "v1.13",
  "v1.14",
  "v1.15",
  "v1.16",
  "v1.17",
  "v1.18",
  "v1.19"
] as const

/** The versions of the specification that a server supports, and its unstable features. */
export const Versions = body(
  Schema.Struct({
    versions: Schema.Array(Schema.String),
    unstable_features: Schema.Record(Schema.String, Schema.Boolean)
  }).annotate({ identifier: "Versions" })
)
export type Versions = typeof Versions.Type

/** The capabilities by name; those that are absent have the default that the specification gives them. */
export const Capabilities = body(
  Schema.Struct({ capabilities: Schema.Record(Schema.String, Schema.Unknown) }).annotate({ identifier: "Capabilities" })
)
export type Capabilities = typeof Capabilities.Type

/** The metadata of RFC 8414, as far as Matrix clients read them. */
const AuthMetadata = body(
  Schema.StructWithRest(
    Schema.Struct({
      issuer: Schema.String,
      authorization_endpoint: Schema.String,
      token_endpoint: Schema.String,
      revocation_endpoint: Schema.String,
      registration_endpoint: Schema.optionalKey(Schema.String),
      device_authorization_endpoint: Schema.optionalKey(Schema.String),
      response_types_supported: Schema.Array(Schema.String),
      response_modes_supported: Schema.Array(Schema.String),
      authorization_response_iss_parameter_supported: Schema.optionalKey(Schema.Boolean),
      grant_types_supported: Schema.Array(Schema.String),
      code_challenge_methods_supported: Schema.Array(Schema.String),
      prompt_values_supported: Schema.optionalKey(Schema.Array(Schema.String)),
      account_management_uri: Schema.optionalKey(Schema.String),
      account_management_actions_supported: Schema.optionalKey(Schema.Array(Schema.String))
    }),
    [Schema.Record(Schema.String, Schema.Json)]
  ).annotate({ identifier: "AuthMetadata" })
)

const Url = Schema.Struct({ base_url: Schema.String })
const ClientDiscovery = body(
  Schema.StructWithRest(Schema.Struct({ "m.homeserver": Url, "m.identity_server": Schema.optionalKey(Url) }), [
    Schema.Record(Schema.String, Schema.Json)
  ]).annotate({ identifier: "ClientDiscovery" })
)
const Contact = Schema.Struct({
  role: Schema.String,
  matrix_id: Schema.optionalKey(Schema.String),
  email_address: Schema.optionalKey(Schema.String)
})
const Support = body(
  Schema.Struct({
    contacts: Schema.optionalKey(Schema.Array(Contact)),
    support_page: Schema.optionalKey(Schema.String)
  }).annotate({ identifier: "SupportContacts" })
)

export class VersionsApi extends HttpApiGroup.make("clientServer.versions")
  .add(
    HttpApiEndpoint.get("versions", "/versions", { success: Versions }).annotateMerge(
      documented({ summary: "Versions of the specification and unstable features", who: "anyone" })
    ),
    HttpApiEndpoint.get("capabilities", "/v3/capabilities", { success: Capabilities })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "The capabilities of the server, and the room versions", who: "any user" })),
    HttpApiEndpoint.get("authMetadata", "/v1/auth_metadata", { success: AuthMetadata }).annotateMerge(
      documented({
        summary: "The metadata of the OAuth 2.0 API",
        text: "Errors: M_UNRECOGNIZED if it is not served.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("authIssuer", "/unstable/org.matrix.msc2965/auth_issuer", {
      success: body(Schema.Struct({ issuer: Schema.String }))
    }).annotateMerge(documented({ summary: "The issuer of the OAuth 2.0 API, for older clients", who: "anyone" }))
  )
  .annotateMerge(OpenApi.annotations({ title: "Versions and capabilities" })) {}

export class WellKnownApi extends HttpApiGroup.make("clientServer.wellKnown")
  .add(
    HttpApiEndpoint.get("client", "/.well-known/matrix/client", { success: ClientDiscovery }).annotateMerge(
      documented({ summary: "The URL of the client API", who: "anyone" })
    ),
    HttpApiEndpoint.get("server", "/.well-known/matrix/server", {
      success: body(Schema.Struct({ "m.server": Schema.String }))
    }).annotateMerge(
      documented({
        summary: "The address at which other home servers reach this one",
        text: "Errors: M_NOT_FOUND if that is the server name itself.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("policyServer", "/.well-known/matrix/policy_server", {
      success: body(Schema.Struct({ public_keys: Schema.Record(Schema.String, Schema.String) }))
    }).annotateMerge(
      documented({
        summary: "The key of the policy server that this server is",
        text: "Errors: M_NOT_FOUND if it is none.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("support", "/.well-known/matrix/support", { success: Support }).annotateMerge(
      documented({
        summary: "The contacts of this server",
        text: "Errors: M_NOT_FOUND where the operator publishes none.",
        who: "anyone"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Well-known URIs" })) {}
