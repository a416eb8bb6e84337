/**
 * The abilities of this server, which clients request first: versions of the specification, unstable features, capabilities,
 * and the address of the client API (`.well-known`).
 *
 * Source: "Server discovery" and "Capabilities negotiation" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { AnyObject, body } from "../api/Body.ts"
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

export class VersionsApi extends HttpApiGroup.make("clientServer.versions")
  .add(
    HttpApiEndpoint.get("versions", "/versions", { success: Versions }).annotateMerge(
      documented({ summary: "Versions of the specification and unstable features", who: "anyone" })
    ),
    HttpApiEndpoint.get("capabilities", "/v3/capabilities", { success: Capabilities })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "The capabilities of the server, and the room versions", who: "any user" })),
    HttpApiEndpoint.get("authMetadata", "/v1/auth_metadata", { success: AnyObject }).annotateMerge(
      documented({
        summary: "The metadata of the OAuth 2.0 API",
        text: "Errors: M_UNRECOGNIZED where it is not served.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("authIssuer", "/unstable/org.matrix.msc2965/auth_issuer", { success: AnyObject }).annotateMerge(
      documented({ summary: "The issuer of the OAuth 2.0 API, for older clients", who: "anyone" })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Versions and capabilities" })) {}

export class WellKnownApi extends HttpApiGroup.make("clientServer.wellKnown")
  .add(
    HttpApiEndpoint.get("client", "/.well-known/matrix/client", { success: AnyObject }).annotateMerge(
      documented({ summary: "The URL of the client API", who: "anyone" })
    ),
    HttpApiEndpoint.get("server", "/.well-known/matrix/server", { success: AnyObject }).annotateMerge(
      documented({
        summary: "The address at which other home servers reach this one",
        text: "Errors: M_NOT_FOUND where that is the server name itself.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("policyServer", "/.well-known/matrix/policy_server", { success: AnyObject }).annotateMerge(
      documented({
        summary: "The key of the policy server that this server is",
        text: "Errors: M_NOT_FOUND where it is none.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("support", "/.well-known/matrix/support", { success: AnyObject }).annotateMerge(
      documented({ summary: "The contacts of this server", text: "Errors: M_NOT_FOUND.", who: "anyone" })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Well-known URIs" })) {}
