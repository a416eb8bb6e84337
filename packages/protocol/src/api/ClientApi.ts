/**
 * The client API, version 1, as one definition: the gateway serves it, the typed client calls it, `/openapi.json` and
 * `/docs` describe it.
 *
 * It is served under two prefixes. `HttpApiBuilder` makes the routes of a group for the paths of one API, so the gateway
 * mounts `ClientApi` once and, before routing, rewrites the later prefix to the draft's (`canonicalUrl`).
 *
 * Source: "API Standards" of the draft.
 */
import { HttpApi, OpenApi } from "effect/http-api"
import { AccountApi } from "./AccountApi.ts"
import { AdminApi } from "./AdminApi.ts"
import { clientDocumentation } from "./ClientDocumentation.ts"
import { ContactsApi } from "./ContactsApi.ts"
import { ContentApi } from "./ContentApi.ts"
import { DestinationsApi } from "./DestinationsApi.ts"
import { DirectoryApi } from "./DirectoryApi.ts"
import { EventsApi } from "./EventsApi.ts"
import { LoginApi } from "./LoginApi.ts"
import { LoginPagesApi } from "./LoginPagesApi.ts"
import { MembershipApi } from "./MembershipApi.ts"
import type { CommonErrors } from "./OpenApiDocument.ts"
import { PresenceApi } from "./PresenceApi.ts"
import { ProfileApi } from "./ProfileApi.ts"
import { RegistrationApi } from "./RegistrationApi.ts"
import { RoomsApi } from "./RoomsApi.ts"
import { encodeSemicolons } from "./Semicolons.ts"
import { StateApi } from "./StateApi.ts"
import { SystemApi } from "./SystemApi.ts"
import { VoipApi } from "./VoipApi.ts"
import { WireErrors } from "./WireError.ts"

/** The prefix of the client API in the draft. */
export const clientPrefix = "/matrix/client/api/v1"

/** The prefix of the client API in its successor. */
export const laterClientPrefix = "/_matrix/client/api/v1"

const laterPath = /^\/_matrix\/(?:client\/api\/v1\/|content(?:[/?]|$))/

/**
 * A URL of the client API or the content repository under the later prefix, moved to the draft's; any other as it is, but
 * for semicolons in its path.
 */
export const canonicalUrl = (url: string): string => {
  const encoded = encodeSemicolons(url)
  const moved = laterPath.test(encoded) ? `/${encoded.slice(2)}` : encoded
  return moved.replace(/^\/matrix\/content\/(?=\?|$)/, "/matrix/content")
}

/** The errors that every endpoint may answer with. */
const commonErrors: CommonErrors = {
  withToken: ["M_MISSING_TOKEN", "M_UNKNOWN_TOKEN"],
  withBody: ["M_BAD_JSON", "M_NOT_JSON", "M_TOO_LARGE"],
  withParameters: ["M_BAD_JSON"],
  withPagination: ["M_BAD_PAGINATION"],
  withPath: ["M_NOT_FOUND"],
  always: ["M_LIMIT_EXCEEDED"]
}

/** The client API under a prefix, with the operator's endpoints beside it. */
export const clientApi = <const Prefix extends `/${string}`>(prefix: Prefix) => {
  const api = HttpApi.make("ClientApi")
    .add(RegistrationApi, LoginApi, EventsApi, RoomsApi, StateApi, MembershipApi)
    .add(DirectoryApi, PresenceApi, ProfileApi, ContactsApi, VoipApi)
    .add(LoginPagesApi, AccountApi, AdminApi, DestinationsApi)
    .prefix(prefix)
    .add(SystemApi, ContentApi)
    .middleware(WireErrors)
  return api.annotateMerge(
    OpenApi.annotations({
      title: "Greenroom: the Matrix client API, version 1",
      version: "1",
      description:
        "The client API of 2014; that of today's clients has [its own page](/docs/client-server). " +
        `Under \`${clientPrefix}\` and, the same, under \`${laterClientPrefix}\`. Bodies are JSON objects in UTF-8, ` +
        "whatever content type is given, of 1 MiB at most (384 KiB for events; 64 KiB for login, registration and " +
        'account). Every error is `{"errcode": "M_...", "error": "..."}`.',
      transform: clientDocumentation(api as never, commonErrors)
    })
  )
}

/** The client API where the draft puts it. */
export const ClientApi = clientApi(clientPrefix)
export type ClientApi = typeof ClientApi
