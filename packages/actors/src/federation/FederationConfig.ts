/**
 * How this home server reaches others. Read once, at the start.
 */
import { matchesGlob, parseGlob } from "@greenroom/protocol/Glob"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Context } from "effect"
import type { AddressPolicy } from "./AddressPolicy.ts"

/** The settings of federation. */
export interface FederationOptions {
  /** Whether this server federates: sends requests to other servers, and answers theirs (default true). */
  readonly enabled?: boolean
  /** The servers with which it federates, as globs of their names (default: all). */
  readonly allow?: ReadonlyArray<string>
  /** The servers with which it does not federate, even if `allow` has them (default: none). */
  readonly deny?: ReadonlyArray<string>
  /** Whether the certificates of other servers must be valid (default true). False for tests and closed networks. */
  readonly verifyCertificates?: boolean
  /** Certificates, as PEM, that are trusted beside those of the system: the authority of a private network. */
  readonly certificateAuthorities?: ReadonlyArray<string>
  /** Server names whose address is known: `host:port` for each. They are never looked up, and may be private. */
  readonly staticServers?: { readonly [serverName: string]: string }
  /**
   * Which addresses other servers may have (default "public"; "loopback" where certificates are not verified, as in
   * tests). Those of `staticServers` are always allowed.
   */
  readonly addressPolicy?: AddressPolicy
  /**
   * Notaries: servers that are trusted to give the signing keys of servers that do not answer themselves (default: none). In a
   * room, the server through which this one joined is asked as well.
   */
  readonly keyNotaries?: ReadonlyArray<ServerName>
  /** The DNS servers to ask, `address:port`, instead of those of the system. */
  readonly dnsServers?: ReadonlyArray<string>
  /** The port of `.well-known/matrix/server` of other servers (default 443); 0: it is not looked up. For tests. */
  readonly wellKnownPort?: number
  /** The time to open a connection, in ms (default 5,000). Then the next target is tried. */
  readonly connectTimeout?: number
  /** The time without an answer on a reused connection, in ms (default 5,000). Then a new connection is tried. */
  readonly silenceTimeout?: number
  /** The time limit of a request, in ms (default 30,000). Large answers may take four times as long. */
  readonly requestTimeout?: number
}

/** The settings of federation, for the services that read them. */
export class FederationConfig extends Context.Service<FederationConfig, FederationOptions>()(
  "greenroom/actors/FederationConfig"
) {}

const isNamed = (patterns: ReadonlyArray<string>, host: string): boolean =>
  patterns.some((pattern) => matchesGlob(host, parseGlob(pattern, { ignoreCase: true })))

/** Whether this server federates with that one. Ports are ignored. */
export const talksWith = (
  { allow = [], deny = [], enabled = true }: FederationOptions,
  server: ServerName
): boolean => {
  if (!enabled) return false
  if (allow.length === 0 && deny.length === 0) return true
  const host = server.replace(/:[0-9]{1,5}$/, "")
  return !isNamed(deny, host) && (allow.length === 0 || isNamed(allow, host))
}

/** The policy that the options ask for. */
export const addressPolicyOf = ({ addressPolicy, verifyCertificates = true }: FederationOptions): AddressPolicy =>
  addressPolicy ?? (verifyCertificates ? "public" : "loopback")
