/**
 * The settings of logins and registrations: flows, mail, OAuth2 providers. A part of `GatewayConfig`.
 */
import {
  checkLoginOptions,
  type Flow,
  type LoginOptions,
  loginDefaults,
  type OAuth2Provider,
  type OAuthMode,
  oauthModes,
  type Policy,
  type RegistrationMode,
  registrationModes,
  type StageType,
  stageTypes
} from "@greenroom/actors/account/login/LoginOptions"
import { off, type Rate, RateFromString } from "@greenroom/gateway/Rate"
import {
  type Configuration,
  fixedPort,
  list,
  optional,
  Secret,
  type Setting,
  setting,
  Text,
  Truth,
  truthExpects,
  wholeNumber
} from "@greenroom/gateway/Setting"
import type { AttemptRate } from "@greenroom/store/LoginAttemptStore"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { Policies, Providers, problemOfPolicies, problemOfProviders, url } from "./LoginTables.ts"

const isStage = (text: string): text is StageType => (stageTypes as ReadonlyArray<string>).includes(text)

const isFlow = (text: string): boolean => text.split("+").every((stage) => isStage(stage.trim()))

/** Flows with commas between them, stages with `+` between them. */
const Flows: Schema.Codec<ReadonlyArray<Flow>, string> = Schema.String.check(
  Schema.makeFilter((text: string) => text.split(",").every(isFlow))
).pipe(
  Schema.decodeTo(
    Schema.Array(Schema.Array(Schema.Literals(stageTypes))),
    SchemaTransformation.transform<ReadonlyArray<Flow>, string>({
      decode: (text) => text.split(",").map((flow) => flow.split("+").map((stage) => stage.trim() as StageType)),
      encode: (flows) => flows.map((flow) => flow.join("+")).join(",")
    })
  )
)

const flowsExpects = `a list of flows such as m.login.password+m.login.email.code, of the stages ${stageTypes.join(", ")}`

const attempts = (name: string, description: string, fallback: AttemptRate): Setting<Rate | typeof off> => ({
  name: `login.${name}`,
  description,
  expects: 'a rate such as "50/10m", or "off"',
  schema: RateFromString,
  fallback
})

export const loginSettings = {
  publicUrl: optional({
    name: "public_url",
    description: "The public URL of this server. Links in mails and OAuth2 providers lead back to it",
    expects: "a URL such as https://example.org",
    schema: url,
    flag: "url"
  }),
  loginFlows: setting({
    name: "login.flows",
    description: "The ways to log in",
    expects: flowsExpects,
    schema: Flows,
    fallback: [["m.login.password"]] as ReadonlyArray<Flow>
  }),
  registrationFlows: setting({
    name: "login.registration_flows",
    description: "The ways to register",
    expects: flowsExpects,
    schema: Flows,
    fallback: [["m.login.password"]] as ReadonlyArray<Flow>
  }),
  registrationMode: setting<RegistrationMode>({
    name: "login.registration",
    description: "Who may register: everybody, holders of a registration token, nobody",
    expects: `one of ${registrationModes.join(", ")}`,
    schema: Schema.Literals(registrationModes) as Schema.Codec<RegistrationMode, string>,
    fallback: "open"
  }),
  registrationApproval: setting({
    name: "registration_approval",
    description: "New accounts wait for the approval of an administrator",
    expects: truthExpects,
    schema: Truth,
    fallback: false,
    flag: "switch"
  }),
  revealAddresses: setting({
    name: "login.reveal_addresses",
    description: "Tell clients whether an address belongs to an account, and not only its owner by mail",
    expects: truthExpects,
    schema: Truth,
    fallback: false
  }),
  minPasswordLength: setting({
    name: "login.min_password_length",
    description: "The minimum length of new passwords in characters",
    ...wholeNumber("a number of characters", 1, 128),
    fallback: loginDefaults.minPasswordLength as number
  }),
  oauthMode: setting<OAuthMode>({
    name: "login.oauth",
    description: "The OAuth 2.0 API: not served, served beside the other logins, served in their place",
    expects: `one of ${oauthModes.join(", ")}`,
    schema: Schema.Literals(oauthModes) as Schema.Codec<OAuthMode, string>,
    fallback: "off"
  }),
  ssoRedirects: setting({
    name: "login.sso_redirects",
    description: "Prefixes of client URLs to which a login by m.login.sso redirects without asking the user",
    expects: "a list of URLs such as https://app.element.io/",
    schema: list(/^[a-z][a-z0-9+.-]*:[!-~]*$/),
    fallback: [] as ReadonlyArray<string>
  }),
  terms: setting({
    name: "login.terms",
    description: "Documents that users must accept to register by today's client API",
    expects: "a list of tables with id, version, name and url, and perhaps language",
    schema: Policies,
    fallback: [] as ReadonlyArray<Policy>,
    problem: problemOfPolicies
  }),
  loginSessionTtl: setting({
    name: "login.session_ttl",
    description: "The time in seconds in which a login must be completed",
    ...wholeNumber("a number of seconds", 60, 86_400),
    fallback: loginDefaults.sessionTtl / 1_000
  }),
  tokenTtl: setting({
    name: "login.token_ttl",
    description: "The lifetime of access tokens in seconds. 0: they do not expire",
    ...wholeNumber("a number of seconds", 0, 315_360_000),
    fallback: 0
  }),
  accountAttempts: attempts(
    "account_attempts",
    "Failed attempts to log in to one account, from wherever",
    loginDefaults.accountAttempts
  ),
  addressAttempts: attempts("address_attempts", "Failed logins from one address", loginDefaults.addressAttempts),
  mailRate: attempts("mail_rate", "Mails to one address", loginDefaults.mailRate),
  mailHost: optional({
    name: "mail.host",
    description: "The host name of the SMTP server that sends mails",
    expects: "a host name",
    schema: Text
  }),
  mailPort: setting({
    name: "mail.port",
    description: "The port of the SMTP server",
    ...fixedPort,
    fallback: 587
  }),
  mailSecurity: setting<"tls" | "starttls" | "none">({
    name: "mail.security",
    description: "TLS from the first byte, STARTTLS, or none for a server on the same machine",
    expects: "one of tls, starttls, none",
    schema: Schema.Literals(["tls", "starttls", "none"]) as Schema.Codec<"tls" | "starttls" | "none", string>,
    fallback: "starttls"
  }),
  mailUser: optional({
    name: "mail.user",
    description: "The account at the SMTP server",
    expects: "a text",
    schema: Text
  }),
  mailPassword: optional({
    name: "mail.password",
    description: "The password at the SMTP server",
    expects: "a text",
    schema: Secret,
    secret: true
  }),
  mailFrom: optional({
    name: "mail.from",
    description: "The sender of mails",
    expects: "an address such as Greenroom <noreply@example.org>",
    schema: Schema.String.check(Schema.isPattern(/^[^\r\n@]+@[^\r\n@\s]+$/)) as Schema.Codec<string>
  }),
  mailTemplates: optional({
    name: "mail.templates",
    description: "A directory with templates of mails that replace the built-in ones",
    expects: "a directory",
    schema: Text
  }),
  mailNotificationDelay: setting({
    name: "mail.notification_delay",
    description: "The time in seconds after which unread notifications are mailed to users that want it",
    ...wholeNumber("a number of seconds", 1, 86_400),
    fallback: loginDefaults.notificationDelay / 1_000
  }),
  mailVerify: setting({
    name: "mail.verify_certificate",
    description: "Check the certificate of the SMTP server. Switch it off for tests only",
    expects: truthExpects,
    schema: Truth,
    fallback: true
  }),
  providers: setting({
    name: "oauth2.providers",
    description: "The OAuth2 providers with whose accounts people may log in",
    expects: "a list of tables with id, name, client_id, client_secret and issuer",
    schema: Providers,
    fallback: [] as ReadonlyArray<OAuth2Provider>,
    secret: true,
    problem: problemOfProviders
  })
} as const

type LoginSettings = Configuration<typeof loginSettings>

const toAttempts = (rate: Rate | typeof off): AttemptRate =>
  rate === off ? { limit: Number.MAX_SAFE_INTEGER, window: 1 } : rate

/** The options of the home server that follow from the settings. */
export const toLoginOptions = (config: LoginSettings): LoginOptions => ({
  oauth: config.oauthMode,
  terms: config.terms,
  ssoRedirects: config.ssoRedirects,
  flows: config.loginFlows,
  registrationFlows: config.registrationFlows,
  registration: config.registrationMode,
  registrationApproval: config.registrationApproval,
  minPasswordLength: config.minPasswordLength,
  revealAddresses: config.revealAddresses,
  sessionTtl: config.loginSessionTtl * 1_000,
  tokenTtl: config.tokenTtl === 0 ? undefined : config.tokenTtl * 1_000,
  accountAttempts: toAttempts(config.accountAttempts),
  addressAttempts: toAttempts(config.addressAttempts),
  mailRate: toAttempts(config.mailRate),
  providers: config.providers,
  mail:
    config.mailHost === undefined || config.mailFrom === undefined
      ? undefined
      : {
          host: config.mailHost,
          port: config.mailPort,
          security: config.mailSecurity,
          user: config.mailUser,
          password: config.mailPassword,
          from: config.mailFrom,
          templates: config.mailTemplates,
          notificationDelay: config.mailNotificationDelay * 1_000,
          verifyCertificate: config.mailVerify
        }
})

/** The first fault that concerns several settings, in one line; undefined if there is none. */
export const checkLoginSettings = (config: LoginSettings & { readonly enableRegistration: boolean }) => {
  if (config.mailHost !== undefined && config.mailFrom === undefined) return "mail.host needs mail.from"
  if (config.mailPassword !== undefined && config.mailUser === undefined) return "mail.password needs mail.user"
  const options = toLoginOptions(config)
  return checkLoginOptions(config.enableRegistration ? options : { ...options, registration: "closed" })
}
