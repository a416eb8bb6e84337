/**
 * The settings of logins that are tables: OAuth2 providers (`[[oauth2.providers]]`) and documents to accept (`[[login.terms]]`). The
 * environment has them as JSON.
 */
import type { OAuth2Provider, Policy } from "@greenroom/actors/account/login/LoginOptions"
import { describeIssue } from "@greenroom/protocol/IssueDescription"
import { parseJsonText } from "@greenroom/protocol/Json"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/** A URL of a page or an endpoint. */
export const url = Schema.String.check(
  Schema.makeFilter((text: string) => /^https?:\/\/[^/?#]/.test(text) && URL.canParse(text), {
    expected: "a URL such as https://accounts.example.com"
  })
) as Schema.Codec<string>

const Id = Schema.String.check(
  Schema.isPattern(/^[a-z0-9._-]{1,64}$/, { expected: "1 to 64 of the letters a-z, digits, and . _ -" })
)

const parseTables = (text: string): ReadonlyArray<unknown> | undefined => {
  const value = parseJsonText(text)
  return Array.isArray(value) ? value : undefined
}

/** The fault of the first table that does not decode. */
const problemOfTables =
  (decode: (table: unknown) => Result.Result<unknown, Schema.SchemaError>) =>
  (text: string): string | undefined => {
    for (const [index, table] of (parseTables(text) ?? []).entries()) {
      const decoded = decode(table)
      if (Result.isFailure(decoded)) return `table ${index + 1}: ${describeIssue(decoded.failure.issue).text}`
    }
    return undefined
  }

const urlKeys = ["issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint"] as const
type ProviderUrls = { readonly [K in (typeof urlKeys)[number]]?: string }

const Provider = Schema.Struct({
  id: Id,
  name: Schema.NonEmptyString,
  client_id: Schema.NonEmptyString,
  client_secret: Schema.NonEmptyString,
  issuer: url,
  authorization_endpoint: Schema.optionalKey(url),
  token_endpoint: Schema.optionalKey(url),
  userinfo_endpoint: Schema.optionalKey(url),
  subject_claim: Schema.optionalKey(Schema.NonEmptyString),
  scope: Schema.optionalKey(Schema.String),
  authentication: Schema.optionalKey(Schema.Literals(["client_secret_basic", "client_secret_post"])),
  allow_http: Schema.optionalKey(Schema.Boolean)
})
  .annotate({ messageUnexpectedKey: "Not a setting of a provider" })
  .check(
    Schema.makeFilter(
      (provider: ProviderUrls) =>
        (provider.authorization_endpoint === undefined) === (provider.token_endpoint === undefined) || {
          path: [provider.token_endpoint === undefined ? "token_endpoint" : "authorization_endpoint"],
          issue: "Expected both endpoints, or none to find them by discovery"
        }
    ),
    Schema.makeFilter((provider: ProviderUrls & { readonly allow_http?: boolean }) => {
      const plain = provider.allow_http ? undefined : urlKeys.find((key) => provider[key]?.startsWith("http:"))
      return plain === undefined || { path: [plain], issue: "Expected an https URL; http needs allow_http = true" }
    })
  )

const toProvider = (provider: typeof Provider.Type): OAuth2Provider => ({
  id: provider.id,
  name: provider.name,
  clientId: provider.client_id,
  clientSecret: Redacted.make(provider.client_secret),
  issuer: provider.issuer,
  authorizationEndpoint: provider.authorization_endpoint,
  tokenEndpoint: provider.token_endpoint,
  userinfoEndpoint: provider.userinfo_endpoint,
  subjectClaim: provider.subject_claim,
  scope: provider.scope,
  authentication: provider.authentication,
  allowHttp: provider.allow_http
})

const decodeProvider = Schema.decodeUnknownResult(Provider, { onExcessProperty: "error" })

const parseProviders = (text: string): ReadonlyArray<typeof Provider.Type> | undefined => {
  const decoded = parseTables(text)?.map((table) => decodeProvider(table))
  return decoded?.every(Result.isSuccess) ? decoded.map(({ success }) => success) : undefined
}

/** The fault of the first invalid provider. */
export const problemOfProviders = problemOfTables(decodeProvider)

/** The tables `[[oauth2.providers]]` of TOML, converted to JSON. */
export const Providers: Schema.Codec<ReadonlyArray<OAuth2Provider>, string> = Schema.String.check(
  Schema.makeFilter((text: string) => parseProviders(text) !== undefined)
).pipe(
  Schema.decodeTo(
    Schema.Array(Schema.Any as Schema.Codec<OAuth2Provider>),
    SchemaTransformation.transform<ReadonlyArray<OAuth2Provider>, string>({
      decode: (text) => (parseProviders(text) ?? []).map(toProvider),
      encode: () => "[]"
    })
  )
)

const PolicyTable = Schema.Struct({
  id: Id,
  version: Schema.NonEmptyString,
  language: Schema.optionalKey(Schema.NonEmptyString),
  name: Schema.NonEmptyString,
  url
}).annotate({ messageUnexpectedKey: "Not a setting of a policy" })

const decodePolicy = Schema.decodeUnknownResult(PolicyTable, { onExcessProperty: "error" })

const parsePolicies = (text: string): ReadonlyArray<Policy> | undefined => {
  const decoded = parseTables(text)?.map((table) => decodePolicy(table))
  return decoded?.every(Result.isSuccess)
    ? decoded.map(({ success: { language = "en", ...policy } }) => ({ language, ...policy }))
    : undefined
}

/** The fault of the first invalid document. */
export const problemOfPolicies = problemOfTables(decodePolicy)

/** The tables `[[login.terms]]` of TOML, converted to JSON. */
export const Policies: Schema.Codec<ReadonlyArray<Policy>, string> = Schema.String.check(
  Schema.makeFilter((text: string) => parsePolicies(text) !== undefined)
).pipe(
  Schema.decodeTo(
    Schema.Array(Schema.Any as Schema.Codec<Policy>),
    SchemaTransformation.transform<ReadonlyArray<Policy>, string>({
      decode: (text) => parsePolicies(text) ?? [],
      encode: () => "[]"
    })
  )
)
