/**
 * Options of logins and registrations: flows, lifetimes, rate limits, the mail server and OAuth2 providers.
 *
 * Source: "Registration and login" of the draft.
 */
import type { JsonObject } from "@greenroom/protocol/Json"
import type { AttemptRate } from "@greenroom/store/LoginAttemptStore"
import type * as Redacted from "effect/Redacted"

/** The stages of the draft, and the registration token of the operator. */
export const stageTypes = [
  "m.login.password",
  "m.login.oauth2",
  "m.login.email.code",
  "m.login.email.url",
  "m.login.registration_token"
] as const
/** The name of a stage, such as `m.login.password`. */
export type StageType = (typeof stageTypes)[number]

/** Stages in the order in which they must be completed. */
export type Flow = ReadonlyArray<StageType>

/** Registration is open to everybody, to holders of a registration token, or to no one. */
export const registrationModes = ["open", "token", "closed"] as const
export type RegistrationMode = (typeof registrationModes)[number]

/** The mail server for outgoing mails. */
export interface MailOptions {
  readonly host: string
  readonly port: number
  /** `tls` from the first byte; `starttls`, or the connection fails; `none` for a server on the same machine. */
  readonly security: "tls" | "starttls" | "none"
  readonly user?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  /** The sender of mails, such as `Greenroom <noreply@example.org>`. */
  readonly from: string
  /** A directory with templates that replace the built-in ones, see `MailTemplates`. */
  readonly templates?: string | undefined
  /** The shortest delay between a notification and the mail about it, in ms (default: 10 minutes). */
  readonly notificationDelay?: number | undefined
  /** False accepts any certificate. For tests only. */
  readonly verifyCertificate?: boolean
}

/** An OAuth2 provider with whose accounts users log in. */
export interface OAuth2Provider {
  /** The ID by which accounts are linked. It must never change. */
  readonly id: string
  /** The name shown to users. */
  readonly name: string
  readonly clientId: string
  readonly clientSecret: Redacted.Redacted
  /** Found by discovery (OpenID Connect, RFC 8414), unless the endpoints are given. */
  readonly issuer: string
  readonly authorizationEndpoint?: string | undefined
  readonly tokenEndpoint?: string | undefined
  /** The user info endpoint of a provider without ID tokens. */
  readonly userinfoEndpoint?: string | undefined
  /** The key of the permanent user name in the answer of `userinfoEndpoint` (default `sub`). */
  readonly subjectClaim?: string | undefined
  /** Default: `openid`, or nothing if the endpoints are given. */
  readonly scope?: string | undefined
  /** How the client authenticates at the token endpoint (default `client_secret_basic`). */
  readonly authentication?: "client_secret_basic" | "client_secret_post" | undefined
  /** Allows requests to the provider without TLS. For tests only. */
  readonly allowHttp?: boolean | undefined
}

/** Whether clients log in by the OAuth 2.0 API: not at all, beside `POST /login`, or instead of it. */
export const oauthModes = ["off", "beside", "on"] as const
/** Whether the OAuth 2.0 API is off, beside other logins, or in place of them. */
export type OAuthMode = (typeof oauthModes)[number]

/** A document that users accept when they register. One policy may have documents in several languages. */
export interface Policy {
  readonly id: string
  readonly version: string
  /** Such as `en`. */
  readonly language: string
  readonly name: string
  readonly url: string
}

/** The settings of logins, registration, mails and OAuth2 providers. */
export interface LoginOptions {
  /** Documents that users accept when they register by today's client API (default: none). */
  readonly terms?: ReadonlyArray<Policy>
  /** Default: off. */
  readonly oauth?: OAuthMode
  /** Prefixes of client URLs to which a login at a provider redirects without asking the user. */
  readonly ssoRedirects?: ReadonlyArray<string>
  /** Default: the password alone. */
  readonly flows?: ReadonlyArray<Flow>
  /** Default: the password alone. */
  readonly registrationFlows?: ReadonlyArray<Flow>
  /** Default: open. With `token`, each registration flow begins with `m.login.registration_token`. */
  readonly registration?: RegistrationMode
  /** Whether new accounts wait until an administrator approves them (default: no). */
  readonly registrationApproval?: boolean
  /** The minimal length of a new password, in characters. */
  readonly minPasswordLength?: number
  /** How long a login may take, in ms. */
  readonly sessionTtl?: number
  /** How long an access token is valid, in ms. Default: until logout. */
  readonly tokenTtl?: number | undefined
  /** How long an access token with a refresh token is valid, in ms. */
  readonly refreshableTokenTtl?: number
  /** How many login sessions one address may have. */
  readonly maxSessionsPerAddress?: number
  /** Failed attempts for one account, from all addresses. */
  readonly accountAttempts?: AttemptRate
  /** Failed attempts from one address, for all accounts. */
  readonly addressAttempts?: AttemptRate
  /** Mails to one address. */
  readonly mailRate?: AttemptRate
  readonly mail?: MailOptions | undefined
  /**
   * Whether a request for a mail to an address answers that the address belongs to an account, or to none (default: no, only the mail
   * says so).
   */
  readonly revealAddresses?: boolean
  readonly providers?: ReadonlyArray<OAuth2Provider>
}

/** The policies in the form of the API: by ID, and in each by language. */
export const policiesOf = (terms: ReadonlyArray<Policy>): JsonObject =>
  Object.fromEntries(
    [...Map.groupBy(terms, ({ id }) => id)].map(([id, texts]) => [
      id,
      {
        version: texts[0]!.version,
        ...Object.fromEntries(texts.map(({ language, name, url }) => [language, { name, url }]))
      }
    ])
  )

const minute = 60_000

/** The values of settings that are not given. */
export const loginDefaults = {
  minPasswordLength: 1,
  sessionTtl: 15 * minute,
  refreshableTokenTtl: 5 * minute,
  maxSessionsPerAddress: 100,
  accountAttempts: { limit: 50, window: 10 * minute },
  addressAttempts: { limit: 500, window: 10 * minute },
  mailRate: { limit: 5, window: 15 * minute },
  notificationDelay: 10 * minute
} as const

const passwordAlone: ReadonlyArray<Flow> = [["m.login.password"]]

/** The flows to log in. */
export const loginFlowsOf = ({ flows }: LoginOptions): ReadonlyArray<Flow> => flows ?? passwordAlone

const withToken = (flow: Flow): Flow =>
  flow.includes("m.login.registration_token") ? flow : ["m.login.registration_token", ...flow]

/** The flows to register, none if registration is closed. */
export const registrationFlowsOf = ({
  registration = "open",
  registrationFlows = passwordAlone
}: LoginOptions): ReadonlyArray<Flow> => {
  if (registration === "closed") return []
  return registration === "token" ? registrationFlows.map(withToken) : registrationFlows
}

const emailStages: ReadonlyArray<StageType> = ["m.login.email.code", "m.login.email.url"]

/** The flows by which a logged-in user adds login methods. */
export const linkFlowsOf = ({ mail, providers = [] }: LoginOptions): ReadonlyArray<Flow> => [
  ...(mail === undefined ? [] : emailStages.map((type): Flow => [type])),
  ...(providers.length === 0 ? [] : [["m.login.oauth2"] as const])
]

const isPrefix = (flow: Flow, other: Flow): boolean => flow.every((type, index) => other[index] === type)

const isReachable = (flow: Flow, flows: ReadonlyArray<Flow>): boolean =>
  !flows.some((other) => other !== flow && isPrefix(other, flow))

const checkFlows = (name: string, flows: ReadonlyArray<Flow>, options: LoginOptions): string | undefined => {
  if (flows.length === 0) return `${name} must have a flow`
  for (const flow of flows) {
    const text = flow.join("+")
    if (flow.length === 0) return `a flow of ${name} has no stages`
    if (new Set(flow).size !== flow.length) return `${text} in ${name} has a stage twice`
    if (!isReachable(flow, flows)) return `${text} in ${name} is never reached: a shorter flow begins like it`
    if (flow.some((type) => emailStages.includes(type)) && options.mail === undefined) {
      return `${text} in ${name} needs a mail server: mail.host`
    }
    if (flow.includes("m.login.oauth2") && (options.providers ?? []).length === 0) {
      return `${text} in ${name} needs oauth2.providers`
    }
  }
  return undefined
}

/** The first fault of the options, in one line; undefined if they are valid. */
export const checkLoginOptions = (options: LoginOptions): string | undefined => {
  const ids = (options.providers ?? []).map(({ id }) => id)
  if (new Set(ids).size !== ids.length) return "oauth2.providers has an id twice"
  const flows = loginFlowsOf(options)
  if (flows.some((flow) => flow.includes("m.login.registration_token"))) {
    return "login.flows cannot have m.login.registration_token"
  }
  return (
    checkFlows("login.flows", flows, options) ??
    ((options.registration ?? "open") === "closed"
      ? undefined
      : checkFlows("login.registration_flows", registrationFlowsOf(options), options))
  )
}
