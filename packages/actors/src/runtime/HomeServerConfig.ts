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
  /** The directory of the embedded PostgreSQL, media and keys. */
  readonly dataDir: string
  /** Another PostgreSQL instead of the embedded one. */
  readonly databaseUrl?: Redacted.Redacted
  /** Whether anybody may register (default true). */
  readonly enableRegistration?: boolean
  /** Whether people may take part as guests, without an account of their own (default false). */
  readonly guests?: boolean
  /** The user that sends the notices of administrators, and their display name (default: no notices). */
  readonly serverNotices?: { readonly localpart: string; readonly name: string }
  /**
   * The services that clients use for calls of several people, such as `{type: "livekit", livekit_service_url:
   * "https://..."}`.
   */
  readonly rtcTransports?: ReadonlyArray<JsonObject>
  /** Where users find help with this server (default: there is none). */
  readonly support?: SupportContacts
  /** Lets clients that know the secret register, at the endpoint of Synapse's tools (default: none). */
  readonly registrationSharedSecret?: Redacted.Redacted
  /** The version of rooms that today's API makes where the client names none (default `12`). */
  readonly defaultRoomVersion?: string
  /**
   * Whether every user may see the presence of all users of this server, as on the reference server of 2014. By
   * default (false) each user is asked, or has asked in return.
   */
  readonly acceptPresenceInvites?: boolean
  /**
   * URLs of the identity servers that are trusted to say whose an address is, without a slash at the end. The first is
   * asked where a client names none (default: none).
   */
  readonly identityServers?: ReadonlyArray<string>
  /**
   * Whether clients may name any other identity server, at a public address, to bind an address there, to look addresses up and to
   * invite by them (default false). It is not trusted to say whose an address of an account is.
   */
  readonly anyIdentityServer?: boolean
  /**
   * The address at which other servers reach this one, if that is not its name: a host name or address, perhaps with a
   * port.
   */
  readonly federationAddress?: string
  /** How the policy servers of rooms are asked. */
  readonly policyServers?: {
    /** How long one may take to answer, in ms (default 10,000). */
    readonly timeout?: number
    /** How often one is asked again that does not answer (default 1). */
    readonly retries?: number
    /** Whether events are sent even if the policy server does not answer (default false). */
    readonly sendAnyway?: boolean
  }
  /** How much one user or one room may have. */
  readonly limits?: Partial<Limits>
  /** User IDs whose requests no rate limits (default: none). Administrators have none in any case. */
  readonly unlimitedUsers?: ReadonlyArray<string>
  /** The application services of this server (default: none). Their IDs and `as_token`s differ. */
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
