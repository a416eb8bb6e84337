/**
 * The configuration of the gateway program: every setting once, with its meaning, its form and its default.
 *
 * A setting `turn.ttl` is written `ttl = 3600` under `[turn]` in the TOML file that `--config` or `GREENROOM_CONFIG`
 * names, and `GREENROOM_TURN_TTL=3600` in the environment; where it has a `flag` it is also an option, `--turn-ttl`.
 * The command line has precedence over the environment, the environment over the file, the file over the default.
 */
import { programSettings, rateSetting } from "@greenroom/gateway/ProgramSettings"
import { defaultRates } from "@greenroom/gateway/Rate"
import {
  type Configuration,
  fixedPort,
  list,
  listenPort,
  optional,
  Secret,
  setting,
  Text,
  Truth,
  truthExpects,
  wholeNumber
} from "@greenroom/gateway/Setting"
import { isServerName } from "@greenroom/protocol/Identifiers"
import { stableVersions } from "@greenroom/room/StableVersions"
import * as Schema from "effect/Schema"
import { limitSettings } from "./LimitSettings.ts"
import { loginSettings } from "./LoginSettings.ts"
import { mediaSettings } from "./MediaSettings.ts"
import { monitoringSettings } from "./MonitoringSettings.ts"
import { policySettings } from "./PolicySettings.ts"
import { supportSettings } from "./SupportSettings.ts"

const rate = (kind: keyof typeof defaultRates, description: string) =>
  rateSetting(kind, description, defaultRates[kind], "500/1s")

/** Every setting, by its name in the program. */
export const settings = {
  ...programSettings({
    serverName: "The name of this home server, the part of user IDs after the colon",
    serverNameExpects: "a server name, such as example.org or localhost:8448",
    api: "client API",
    port: 8008,
    dataDir: "The directory of the embedded database, uploaded files and the self-signed certificate",
    dataDirFallback: "./data"
  }),
  cluster: setting({
    name: "cluster",
    description: "Run as one of several nodes of a home server, which share the database",
    expects: truthExpects,
    schema: Truth,
    fallback: false,
    flag: "switch"
  }),
  clusterHost: setting({
    name: "cluster_host",
    description: "The address at which other nodes reach this one",
    expects: "a host name or an address",
    schema: Text,
    fallback: "127.0.0.1",
    flag: "host"
  }),
  clusterPort: setting({
    name: "cluster_port",
    description: "The port for the other nodes",
    ...fixedPort,
    fallback: 8449,
    flag: "number"
  }),
  clusterListenHost: optional({
    name: "cluster_listen_host",
    description: "The address to listen on for the other nodes. Default: cluster_host",
    expects: "an address",
    schema: Text,
    flag: "host"
  }),
  federationPort: setting({
    name: "federation_port",
    description: "The port of the federation API",
    ...listenPort,
    fallback: 8448,
    flag: "number"
  }),
  tlsCert: optional({
    name: "tls_cert",
    description: "The certificate of the federation API, as PEM",
    expects: "a file",
    schema: Text,
    flag: "file"
  }),
  tlsKey: optional({
    name: "tls_key",
    description: "The private key of the certificate, as PEM",
    expects: "a file",
    schema: Text,
    flag: "file"
  }),
  federationVerify: setting({
    name: "federation_verify",
    description: "Check the certificates of other home servers. Switch it off for tests only",
    expects: truthExpects,
    schema: Truth,
    fallback: true,
    flag: "switch"
  }),
  federationEnabled: setting({
    name: "federation.enabled",
    description: "Federate with other home servers",
    expects: truthExpects,
    schema: Truth,
    fallback: true
  }),
  federationAllow: setting({
    name: "federation.allow",
    description: "The home servers with which this one federates: names with * and ?. Default: all",
    expects: "a list of server names, such as *.example.org",
    schema: list(/^[^\s,/@#!]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  federationDeny: setting({
    name: "federation.deny",
    description: "The home servers with which this one does not federate, even if federation.allow names them",
    expects: "a list of server names, such as *.example.org",
    schema: list(/^[^\s,/@#!]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  federationServers: setting({
    name: "federation.servers",
    description: "The addresses of home servers of a private network: name=host:port. They are not looked up in DNS",
    expects: "a list of name=host:port, such as blue.example=10.0.0.2:8448",
    schema: list(/^[^\s,=]+=[^\s,=]+:[0-9]{1,5}$/),
    fallback: [] as ReadonlyArray<string>
  }),
  federationPrivateAddresses: setting({
    name: "federation.private_addresses",
    description: "Let other home servers and push gateways have addresses of this machine and of private networks",
    expects: truthExpects,
    schema: Truth,
    fallback: false
  }),
  federationDnsServers: setting({
    name: "federation.dns_servers",
    description: "The DNS servers that look up other home servers, instead of those of the system",
    expects: "a list of address:port, such as 10.0.0.1:53",
    schema: list(/^(\[[0-9A-Fa-f:.]+\]|[0-9.]+)(:[0-9]{1,5})?$/),
    fallback: [] as ReadonlyArray<string>
  }),
  federationAuthorities: setting({
    name: "federation.certificate_authorities",
    description: "Files with PEM certificates that are trusted in addition to those of the system",
    expects: "a list of files",
    schema: list(/^[^,]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  federationAddress: optional({
    name: "federation.address",
    description:
      "The address at which other home servers reach this one, if not its name. Served as /.well-known/matrix/server",
    expects: "a server name, such as matrix.example.org:443",
    schema: Schema.String.check(Schema.makeFilter((text: string) => isServerName(text) || "Expected a server name"))
  }),
  federationKeyNotaries: setting({
    name: "federation.key_notaries",
    description: "Trusted home servers that are asked for the signing keys of servers that do not answer",
    expects: "a list of server names",
    schema: list(/^[^\s,/@#!]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  enableRegistration: setting({
    name: "enable_registration",
    description: "Let anybody register an account",
    expects: truthExpects,
    schema: Truth,
    fallback: true,
    flag: "switch"
  }),
  serverNoticesLocalpart: optional({
    name: "server_notices.localpart",
    description: "The user that sends notices of administrators, such as server",
    expects: "a localpart of a user ID",
    schema: Schema.String.check(Schema.isPattern(/^[a-z0-9._=/+-]{1,200}$/)) as Schema.Codec<string>
  }),
  serverNoticesName: setting({
    name: "server_notices.name",
    description: "The display name of that user, and the name of the rooms with notices",
    expects: "a text",
    schema: Text,
    fallback: "Server notices"
  }),
  allowGuests: setting({
    name: "allow_guests",
    description: "Let guests read world-readable rooms, and write in rooms that allow guests, without an account",
    expects: truthExpects,
    schema: Truth,
    fallback: false
  }),
  registrationSharedSecret: optional({
    name: "registration_shared_secret",
    description: "A secret for registration at the endpoint of Synapse's tools",
    expects: "a text",
    schema: Secret,
    secret: true
  }),
  defaultRoomVersion: setting({
    name: "default_room_version",
    description: "The version of new rooms of today's client API if the client names none",
    expects: `a room version: ${stableVersions.join(", ")}`,
    schema: Schema.Literals(stableVersions),
    fallback: "12",
    flag: "version"
  }),
  ...loginSettings,
  ...limitSettings,
  ...mediaSettings,
  ...monitoringSettings,
  ...policySettings,
  identityServers: setting({
    name: "identity_servers",
    description: "Trusted identity servers, which say which user an email address or phone number belongs to",
    expects: "a list of URLs without a path, such as https://id.example.org; * stands for any that a client names",
    schema: list(/^(?:\*|https?:\/\/[^\s,/?#@]+)$/),
    fallback: [] as ReadonlyArray<string>
  }),
  appServiceFiles: setting({
    name: "app_service_files",
    description: "The registration files of application services (bridges, bots), in YAML",
    expects: "a list of files",
    schema: list(/^[^,]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  ...supportSettings,
  rtcLivekitUrls: setting({
    name: "rtc.livekit_urls",
    description: "The LiveKit services that clients use for group calls",
    expects: "a list of URLs such as https://livekit.example.org",
    schema: list(/^https?:\/\/[^\s,]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  turnUris: setting({
    name: "turn.uris",
    description: "The TURN servers that clients use for calls",
    expects: "a list of URIs such as turn:turn.example.org:3478?transport=udp",
    schema: list(/^(turns?|stuns?):[^\s,]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  turnSharedSecret: optional({
    name: "turn.shared_secret",
    description: "The secret that the TURN servers share with this server",
    expects: "a text",
    schema: Secret,
    secret: true
  }),
  turnTtl: setting({
    name: "turn.ttl",
    description: "The lifetime of TURN credentials in seconds",
    ...wholeNumber("a number of seconds", 1, 31_536_000),
    fallback: 86_400
  }),
  registrationRate: rate("registrations", "Registrations, per address"),
  loginRate: rate("logins", "Attempts to log in, per account and address"),
  sendRate: rate("sends", "Requests that change something, per user"),
  requestRate: rate("requests", "Requests that only read, per user"),
  anonymousRate: rate("anonymous", "Requests without a valid access token, per address"),
  unlimitedUsers: setting({
    name: "rate_limits.exempt_users",
    description: "Users without rate limits, in addition to administrators",
    expects: "a list of user IDs, such as @bot:example.org",
    schema: list(/^@[^:\s,]*:[^\s,]+$/),
    fallback: []
  })
} as const

/** The values of all settings. */
export type GatewayConfig = Configuration<typeof settings>
