/**
 * The configuration of the identity server: every setting with its meaning, form and default.
 *
 * A setting `smtp.host` is written `host = "..."` under `[smtp]` in the TOML file that `--config` or
 * `GREENROOM_IDENTITY_CONFIG` names, and `GREENROOM_IDENTITY_SMTP_HOST=...` in the environment; where it has a `flag` it
 * is also an option, `--smtp-host`.
 */
import { programSettings, rateSetting } from "@greenroom/gateway/ProgramSettings"
import type { Off, Rate } from "@greenroom/gateway/Rate"
import {
  type Configuration,
  fixedPort,
  list,
  networks,
  networksExpects,
  optional,
  Secret,
  type Setting,
  setting,
  Text,
  Truth,
  truthExpects,
  wholeNumber
} from "@greenroom/gateway/Setting"
import * as Schema from "effect/Schema"
import { defaultRequestRates } from "./RequestRates.ts"

const rate = (name: string, description: string, fallback: Rate | Off) =>
  rateSetting(name, description, fallback, "20/1h")

const webUrl = Schema.String.check(Schema.isPattern(/^https?:\/\/[^\s/?#@]+(\/[^\s?#]*)?$/)) as Schema.Codec<string>
const webUrlExpects = "a URL such as https://id.example.org"

const seconds = (name: string, description: string, fallback: number): Setting<number> => ({
  name,
  description,
  ...wholeNumber("a number of seconds", 1, 315_360_000),
  fallback
})

/** `name <address>`, or an address. */
const mailbox = Schema.String.check(
  Schema.isPattern(/^(?:[^<>"\r\n]{0,200}<[^\s<>@,"]+@[^\s<>@,"]+>|[^\s<>@,"]+@[^\s<>@,"]+)$/)
)

/** Every setting, by its name in the program. */
export const settings = {
  ...programSettings({
    serverName: "The name of this identity server, by which it signs",
    serverNameExpects: "a server name, such as id.example.org",
    api: "identity API",
    port: 8090,
    dataDir: "The directory of the database of this server",
    dataDirFallback: "./data/identity"
  }),
  publicUrl: optional({
    name: "public_url",
    description: "The URL by which people and servers reach this server; without it http, host and port",
    expects: webUrlExpects,
    schema: webUrl,
    flag: "url"
  }),
  trustedClients: setting({
    name: "trusted_clients",
    description: "Clients, such as home servers that ask for their users, whose requests are not limited",
    expects: networksExpects,
    schema: networks,
    fallback: [] as ReadonlyArray<string>
  }),
  smtpHost: optional({
    name: "smtp.host",
    description: "The SMTP server. Without it no mails are sent",
    expects: "a host name or an address",
    schema: Text,
    flag: "host"
  }),
  smtpPort: setting({
    name: "smtp.port",
    description: "The port of the SMTP server",
    ...fixedPort,
    fallback: 587,
    flag: "number"
  }),
  smtpSecurity: setting<"starttls" | "tls" | "none">({
    name: "smtp.security",
    description: "How the connection to the SMTP server is protected: starttls, tls from the start, or none",
    expects: "starttls, tls or none",
    schema: Schema.Literals(["starttls", "tls", "none"]) as Schema.Codec<"starttls" | "tls" | "none", string>,
    fallback: "starttls",
    flag: "kind"
  }),
  smtpUser: optional({
    name: "smtp.user",
    description: "The user name at the SMTP server",
    expects: "a text",
    schema: Text,
    flag: "name"
  }),
  smtpPassword: optional({
    name: "smtp.password",
    description: "The password at the SMTP server",
    expects: "a text",
    schema: Secret,
    secret: true
  }),
  smtpVerify: setting({
    name: "smtp.verify",
    description: "Check the certificate of the SMTP server. Switch it off for tests only",
    expects: truthExpects,
    schema: Truth,
    fallback: true
  }),
  smtpFrom: optional({
    name: "smtp.from",
    description: "The address that mails come from; without it noreply at the server name",
    expects: "an address, such as noreply@example.org or Example <noreply@example.org>",
    schema: mailbox as Schema.Codec<string>,
    flag: "address"
  }),
  templatesDir: optional({
    name: "templates_dir",
    description: "A folder with texts of mails and messages that replace those that come with the server",
    expects: "a directory",
    schema: Text,
    flag: "directory"
  }),
  smsUrl: optional({
    name: "sms.url",
    description: "The web service that takes text messages. Without it none are sent",
    expects: webUrlExpects,
    schema: Schema.String.check(Schema.isPattern(/^https?:\/\/[^\s#@]+$/)) as Schema.Codec<string>,
    flag: "url"
  }),
  smsAuthorization: optional({
    name: "sms.authorization",
    description: "The value of the Authorization header for that web service",
    expects: "a text",
    schema: Secret,
    secret: true
  }),
  smsFrom: optional({
    name: "sms.from",
    description: "The sender in text messages",
    expects: "a text",
    schema: Text
  }),
  linkLifetime: seconds("validation.link_lifetime", "How long the link of a mail is good", 86_400),
  codeLifetime: seconds("validation.code_lifetime", "How long the code of a text message is good", 600),
  sessionLifetime: seconds("validation.session_lifetime", "How long a validated address may be bound", 86_400),
  singleLookup: setting({
    name: "lookup.single",
    description: "Let anybody look up single addresses as they are. Otherwise only hashed ones",
    expects: truthExpects,
    schema: Truth,
    fallback: true
  }),
  pepperLifetime: seconds("lookup.pepper_lifetime", "After how long addresses are hashed with a new pepper", 604_800),
  terms: setting({
    name: "terms",
    description: "The policies that users of version 2 must accept: ID, version, language, URL and name of each",
    expects: 'a list of texts such as "privacy 1.0 en https://id.example.org/privacy-1.0-en.html Privacy Policy"',
    schema: list(/^[A-Za-z0-9_-]{1,64} \S{1,64} [a-z]{2,3} https?:\/\/\S+ .{1,200}$/),
    fallback: [] as ReadonlyArray<string>
  }),
  peers: setting({
    name: "peers",
    description: "The identity servers to share associations with: name, URL, ID and base64 of a public key of each",
    expects: 'a list of texts such as "id2.example.org https://id2.example.org ed25519:1a2b3c4d Base64Key"',
    schema: list(/^\S+ https?:\/\/\S+ ed25519:\S+ [A-Za-z0-9+/]{43}=?$/),
    fallback: [] as ReadonlyArray<string>
  }),
  homeServers: setting({
    name: "home_servers",
    description: "The URLs of home servers whose federation API cannot be found by their names",
    expects: 'a list of texts such as "example.org https://10.0.0.2:8448"',
    schema: list(/^\S+ https?:\/\/\S+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  privateAddresses: setting({
    name: "private_addresses",
    description: "Let home servers have addresses of private networks",
    expects: truthExpects,
    schema: Truth,
    fallback: false
  }),
  verifyCertificates: setting({
    name: "verify_certificates",
    description: "Check the certificates of home servers. Switch it off for tests only",
    expects: truthExpects,
    schema: Truth,
    fallback: true
  }),
  requestRate: rate("requests", "Requests, per client", defaultRequestRates.requests),
  messageRate: rate("messages", "Mails and text messages, per client", defaultRequestRates.messages),
  addressRate: rate("messages_per_address", "Mails and text messages to one address", { limit: 5, window: 3_600_000 }),
  triesRate: rate("tries", "Submitted tokens, per client", defaultRequestRates.tries),
  lookupRate: rate("lookups", "Addresses that are looked up, per client", defaultRequestRates.lookups)
} as const

/** The values of all settings. */
export type IdentityConfig = Configuration<typeof settings>
