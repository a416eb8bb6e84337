/**
 * The identity API, version 1, as one definition: the identity server serves it, home servers and clients call it.
 *
 * It is served under two prefixes, like the client API; a URL under the later one is moved to the draft's before
 * routing (`canonicalIdentityUrl`).
 *
 * Source: "Identity" of the draft.
 */
import { HttpApi, OpenApi } from "effect/http-api"
import { completeDocument } from "../api/OpenApiDocument.ts"
import { SystemApi } from "../api/SystemApi.ts"
import { WireErrors } from "../api/WireError.ts"
import { InvitationApi } from "./InvitationApi.ts"
import { KeysApi } from "./KeysApi.ts"
import { LookupApi } from "./LookupApi.ts"
import { ReplicationApi } from "./ReplicationApi.ts"
import { ThirdPartyIdApi } from "./ThirdPartyIdApi.ts"
import { ValidationApi } from "./ValidationApi.ts"

/** The prefix of the identity API in the draft. */
export const identityPrefix = "/matrix/identity/api/v1"

/** The prefix of the identity API in its successor. */
export const laterIdentityPrefix = "/_matrix/identity/api/v1"

/** A URL under the later prefix, moved to the draft's; any other as it is. */
export const canonicalIdentityUrl = (url: string): string =>
  url.startsWith("/_matrix/identity/") ? `/${url.slice(2)}` : url

/** The identity API under a prefix, with the operator's endpoints beside it. */
const identityApi = <const Prefix extends `/${string}`>(prefix: Prefix) =>
  HttpApi.make("IdentityApi")
    .add(ValidationApi, ThirdPartyIdApi, LookupApi, InvitationApi, KeysApi, ReplicationApi)
    .prefix(prefix)
    .add(SystemApi)
    .middleware(WireErrors)
    .annotateMerge(
      OpenApi.annotations({
        title: "Greenroom: the Matrix identity API, version 1",
        version: "1",
        description:
          `Under \`${identityPrefix}\` and, the same, under \`${laterIdentityPrefix}\`. Bodies are JSON objects in ` +
          'UTF-8. Every error is `{"errcode": "M_...", "error": "..."}`.',
        transform: (document) => {
          completeDocument(document as unknown as OpenApi.OpenAPISpec)
          return document
        }
      })
    )

/** The identity API under the draft's prefix. */
export const IdentityApi = identityApi(identityPrefix)
export type IdentityApi = typeof IdentityApi
