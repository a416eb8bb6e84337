/**
 * The options of the parts of the identity server, made from its configuration.
 */
import type { KeyObject } from "node:crypto"
import type { Off, Rate } from "@greenroom/gateway/Rate"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Context } from "effect"

/** A policy in one language. */
export interface Terms {
  readonly id: string
  readonly version: string
  /** Such as `en`. */
  readonly language: string
  readonly url: string
  readonly name: string
}

/** Another identity server of the clique. */
export interface Peer {
  readonly name: ServerName
  /** The URL of its API, without a slash at the end. */
  readonly url: string
  /** Its public keys, by key ID. */
  readonly keys: ReadonlyMap<string, KeyObject>
}

export interface IdentityOptionsShape {
  readonly serverName: ServerName
  /** The URL of this server for people and other servers, without a slash at the end. */
  readonly publicUrl: string
  /** How long the link of a mail is valid, in ms. */
  readonly linkLifetime: number
  /** How long the code of a text message is valid, in ms. */
  readonly codeLifetime: number
  /** How long a validated session may be used, in ms. */
  readonly sessionLifetime: number
  /** The time after which addresses are hashed with a new pepper, in ms. */
  readonly pepperLifetime: number
  /** Whether lookups of single addresses without a hash are allowed. */
  readonly singleLookup: boolean
  /** How many messages may be sent to an address, for all clients together. */
  readonly addressRate: Rate | Off
  /** The terms that users must accept, in each language. Empty: none. */
  readonly terms: ReadonlyArray<Terms>
  readonly peers: ReadonlyArray<Peer>
  /** URLs of home servers that cannot be found by their names. */
  readonly homeServers: ReadonlyMap<string, string>
  /** Whether home servers may have addresses of private networks. */
  readonly privateAddresses: boolean
  /** Whether the certificates of home servers are checked. */
  readonly verifyCertificates: boolean
}

export class IdentityOptions extends Context.Service<IdentityOptions, IdentityOptionsShape>()(
  "greenroom/identity/IdentityOptions"
) {}
