/**
 * The settings that several folders read. Those of one subject are beside it: `LoginConfig`, `FederationConfig`.
 * `HomeServer.layer` takes all of them.
 */
import type { AppServiceRegistration } from "@greenroom/protocol/app-service/AppServiceRegistration"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import * as Context from "effect/Context"
import type * as Redacted from "effect/Redacted"
import type { Limits } from "./Limits.ts"

/** A user ID or an email address of the operator. `role`: `m.role.admin` or `m.role.security`. */
export interface SupportContact {
  readonly role: string
  readonly matrix_id?: string
  readonly email_address?: string
}

/** The contacts that the operator publishes for users. */
export interface SupportContacts {
  /** The URL of a page. */
  readonly page?: string
  readonly contacts?: ReadonlyArray<SupportContact>
}

/** The settings of a home server that several subjects need. */
export interface HomeServerSettings {
  /** The name in our users' IDs. */
  readonly serverName: ServerName
  /** The directory of the embedded PostgreSQL, uploaded files, and the self-signed certificate. */
  readonly dataDir: string
  /** The URL of a PostgreSQL database to use instead of the embedded one. */
  readonly databaseUrl?: Redacted.Redacted
  /** Whether anybody may register (default true). */
  readonly enableRegistration?: boolean
  /** Whether guests, who have no account of their own, are allowed (default false). */
  readonly guests?: boolean
  /** The user that sends the notices of administrators, and their display name (default: no notices). */
  readonly serverNotices?: { readonly localpart: string; readonly name: string }
  /**
   * The services that clients use for calls of several people, such as `{type: "livekit", livekit_service_url:
   * "https://..."}`.
   */
  readonly rtcTransports?: ReadonlyArray<JsonObject>
  /** Where users find help with this server (default: none). */
  readonly support?: SupportContacts
  /** Lets clients that know the secret register, at the endpoint of Synapse's tools (default: none). */
  readonly registrationSharedSecret?: Redacted.Redacted
  /** The version of rooms that clients create by today's API without naming one (default `12`). */
  readonly defaultRoomVersion?: string
  /**
   * Whether every user may see the presence of all users of this server, as on the reference server of 2014. By
   * default (false) each user is asked, or has asked in return.
   */
  readonly acceptPresenceInvites?: boolean
  /**
   * URLs of identity servers that are trusted about which user an address belongs to, without a slash at the end. The first is the
   * default if a client names none (default: none).
   */
  readonly identityServers?: ReadonlyArray<string>
  /**
   * Whether clients may name any other identity server, at a public address, to bind an address there, to look addresses up and to
   * invite by them (default false). It is not trusted about the addresses of accounts.
   */
  readonly anyIdentityServer?: boolean
  /**
   * The address at which other servers reach this one, if that is not its name: a host name or address, optionally with a
   * port.
   */
  readonly federationAddress?: string
  /** Requests to the policy servers of rooms. */
  readonly policyServers?: {
    /** The time limit of a request, in ms (default 10,000). */
    readonly timeout?: number
    /** How often a failed request is repeated (default 1). */
    readonly retries?: number
    /** Whether events are sent without a signature if the policy server does not answer (default false). */
    readonly sendAnyway?: boolean
  }
  /** Limits of one user and of one room. */
  readonly limits?: Partial<Limits>
  /** User IDs without rate limits (default: none). Administrators never have rate limits. */
  readonly unlimitedUsers?: ReadonlyArray<string>
  /** The application services of this server (default: none). Their IDs and `as_token`s must differ. */
  readonly appServices?: ReadonlyArray<AppServiceRegistration>
  readonly turn?: {
    readonly uris: ReadonlyArray<string>
    readonly sharedSecret: Redacted.Redacted
    /** The lifetime of credentials, in seconds (default 86,400). */
    readonly ttl?: number
  }
}

/** The settings that several folders read. */
export class HomeServerConfig extends Context.Service<HomeServerConfig, HomeServerSettings>()(
  "greenroom/actors/HomeServerConfig"
) {}
