/**
 * What an embedding program or the gateway app says about the home server. Read once, at the start.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Context, type Redacted } from "effect"

export interface HomeServerOptions {
  /** The name in our users' IDs. */
  readonly serverName: ServerName
  /** Where the embedded PostgreSQL, media and keys live. */
  readonly dataDir: string
  /** Another PostgreSQL instead of the embedded one. */
  readonly databaseUrl?: Redacted.Redacted
  /** Whether anybody may register (default true). */
  readonly enableRegistration?: boolean
  readonly turn?: {
    readonly uris: ReadonlyArray<string>
    readonly sharedSecret: Redacted.Redacted
    /** Seconds that credentials are good for (default 86,400). */
    readonly ttl?: number
  }
}

export class HomeServerConfig extends Context.Service<HomeServerConfig, HomeServerOptions>()(
  "greenroom/actors/HomeServerConfig"
) {}
