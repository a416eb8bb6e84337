/**
 * The metadata of a client that registers for the OAuth 2.0 API, and its allowed redirect URIs: those of its own site, of its own
 * scheme, or of the loopback interface.
 *
 * Source: "Client registration" of the client-server specification; RFC 7591, RFC 8252.
 */
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import { type OAuthError, oauthError } from "./OAuthError.ts"

/** The grant type of RFC 8628. */
export const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"
const grantTypes = ["authorization_code", "refresh_token", deviceGrant] as const

/** A registered client. The host of every URL is that of `client_uri` or a subdomain of it. */
export interface ClientMetadata {
  readonly client_uri: string
  readonly client_name?: string
  readonly logo_uri?: string
  readonly tos_uri?: string
  readonly policy_uri?: string
  readonly redirect_uris: ReadonlyArray<string>
  readonly response_types: ReadonlyArray<"code">
  readonly grant_types: ReadonlyArray<(typeof grantTypes)[number]>
  readonly token_endpoint_auth_method: "none"
  readonly application_type: "web" | "native"
}

const maxUriLength = 2_048
const maxNameLength = 255
const maxRedirectUris = 20
/** The most characters of the metadata of a client, as JSON. */
const maxMetadataLength = 8_192
const loopback: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"])

const invalid = (description: string) => Effect.fail(oauthError("invalid_client_metadata", description))

/** The characters that a URI may have (RFC 3986). */
const uriPattern = /^[A-Za-z0-9._~:/?#[\]@!$&'()*+,;=%-]+$/

const parseUri = (text: unknown): URL | undefined =>
  typeof text === "string" && text.length <= maxUriLength && uriPattern.test(text)
    ? (URL.parse(text) ?? undefined)
    : undefined

const isPlainHttps = (url: URL | undefined): url is URL =>
  url?.protocol === "https:" && url.username === "" && url.password === ""

const isBelow = (host: string, base: string): boolean => host === base || host.endsWith(`.${base}`)

const isWebRedirect = (url: URL, base: string): boolean =>
  isPlainHttps(url) && url.hostname !== "localhost" && isBelow(url.hostname, base)

/**
 * The scheme of a native client begins with its host, in reverse order, and names no authority. A host of one label has no
 * scheme of its own: it could be `javascript` or `data`.
 */
const isOwnScheme = (text: string, url: URL, base: string): boolean => {
  if (!base.includes(".")) return false
  const scheme = url.protocol.slice(0, -1)
  const reversed = base.split(".").reverse().join(".")
  return (scheme === reversed || scheme.startsWith(`${reversed}.`)) && !text.slice(url.protocol.length).startsWith("//")
}

const isLoopback = (url: URL): boolean =>
  url.protocol === "http:" &&
  loopback.has(url.hostname) &&
  url.port === "" &&
  url.username === "" &&
  url.password === ""

const isRedirect = (value: unknown, base: string, type: "web" | "native"): value is string => {
  const url = parseUri(value)
  if (url === undefined || (value as string).includes("#")) return false
  if (isWebRedirect(url, base)) return true
  return type === "native" && (isLoopback(url) || isOwnScheme(value as string, url, base))
}

/** Users read the name, so it must not change the direction of the surrounding text. */
const isName = (value: unknown): value is string =>
  typeof value === "string" &&
  value.length <= maxNameLength &&
  value.isWellFormed() &&
  !/[\p{Cc}\p{Bidi_Control}]/u.test(value)

const strings = (value: unknown): ReadonlyArray<string> =>
  Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : []

/** Checks client metadata. Unknown fields are left out. Errors: invalid_client_metadata, invalid_redirect_uri. */
export const readClientMetadata = Effect.fnUntraced(function* (
  value: unknown
): Effect.fn.Return<ClientMetadata, OAuthError> {
  if (!isJsonObject(value)) return yield* invalid("expected a JSON object")
  const client = parseUri(value.client_uri)
  if (!isPlainHttps(client)) return yield* invalid("client_uri: expected an https URL without user and password")
  const base = client.hostname
  const type = value.application_type ?? "web"
  if (type !== "web" && type !== "native") return yield* invalid("application_type: must be web or native")
  const name = value.client_name
  if (name !== undefined && !isName(name)) {
    return yield* invalid(`client_name: expected at most ${maxNameLength} characters without control characters`)
  }
  const links = yield* readLinks(value, base)
  const redirectUris = value.redirect_uris ?? []
  if (!Array.isArray(redirectUris)) {
    return yield* Effect.fail(oauthError("invalid_redirect_uri", "redirect_uris: expected a list"))
  }
  if (redirectUris.length > maxRedirectUris) {
    return yield* Effect.fail(oauthError("invalid_redirect_uri", `at most ${maxRedirectUris} redirect URIs`))
  }
  for (const uri of redirectUris) {
    if (!isRedirect(uri, base, type)) {
      return yield* Effect.fail(
        oauthError(
          "invalid_redirect_uri",
          "redirect_uris: expected the host of client_uri, or a scheme or loopback address of a native client"
        )
      )
    }
  }
  const granted = strings(value.grant_types)
  const wanted = granted.length === 0 ? ["authorization_code", "refresh_token"] : granted
  const metadata: ClientMetadata = {
    client_uri: value.client_uri as string,
    ...(name === undefined ? {} : { client_name: name }),
    ...links,
    redirect_uris: redirectUris as ReadonlyArray<string>,
    response_types: ["code"],
    grant_types: grantTypes.filter((grant) => wanted.includes(grant)),
    token_endpoint_auth_method: "none",
    application_type: type
  }
  return JSON.stringify(metadata).length <= maxMetadataLength
    ? metadata
    : yield* invalid(`at most ${maxMetadataLength} characters`)
})

/** The pages about a client. */
const readLinks = Effect.fnUntraced(function* (
  value: JsonObject,
  base: string
): Effect.fn.Return<Pick<ClientMetadata, "logo_uri" | "tos_uri" | "policy_uri">, OAuthError> {
  const links: { logo_uri?: string; tos_uri?: string; policy_uri?: string } = {}
  for (const key of ["logo_uri", "tos_uri", "policy_uri"] as const) {
    if (value[key] === undefined) continue
    const url = parseUri(value[key])
    if (!isPlainHttps(url) || !isBelow(url.hostname, base)) {
      return yield* invalid(`${key}: expected an https URL of the host of client_uri`)
    }
    links[key] = value[key] as string
  }
  return links
})

/** Whether a redirect URI is registered for the client. On the loopback interface, any port is allowed. */
export const mayRedirect = ({ redirect_uris }: ClientMetadata, uri: string): boolean => {
  if (redirect_uris.includes(uri)) return true
  const url = parseUri(uri)
  if (url === undefined || uri.includes("#") || url.protocol !== "http:" || !loopback.has(url.hostname)) return false
  if (url.username !== "" || url.password !== "") return false
  url.port = ""
  return redirect_uris.some((own) => URL.parse(own)?.href === url.href)
}
