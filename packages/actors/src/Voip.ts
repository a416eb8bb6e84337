/**
 * Time-limited credentials for the TURN servers that the operator configured: user name `expiry:user`, password
 * base64 of HMAC-SHA1 over it with the shared secret (the TURN REST scheme).
 *
 * Source: "Voice over IP" of the specification.
 */
import { Context, type Effect } from "effect"
import type { Session } from "./Session.ts"

export interface TurnCredentials {
  readonly username: string
  readonly password: string
  readonly uris: ReadonlyArray<string>
  /** Seconds. */
  readonly ttl: number
}

export class Voip extends Context.Service<
  Voip,
  {
    /** Any user; undefined where no TURN server is configured. */
    readonly turnServer: (session: Session) => Effect.Effect<TurnCredentials | undefined>
  }
>()("greenroom/actors/Voip") {}
