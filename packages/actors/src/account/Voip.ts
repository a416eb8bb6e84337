/**
 * Time-limited credentials for the TURN servers that the operator configured: user name `expiry:user`, password
 * base64 of HMAC-SHA1 over it with the shared secret (the TURN REST scheme).
 *
 * Source: "Voice over IP" of the draft and of the client-server specification.
 */
import { createHmac } from "node:crypto"
import { Clock, Context, Effect, Layer, Redacted } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"

/** The default lifetime of credentials, in seconds. */
const defaultTtl = 86_400

/** The answer of `voip/turnServer`. */
export interface TurnCredentials {
  readonly username: string
  readonly password: string
  readonly uris: ReadonlyArray<string>
  /** Seconds. */
  readonly ttl: number
}

/** Credentials for TURN servers. */
export class Voip extends Context.Service<
  Voip,
  {
    /** Credentials for any user; undefined if no TURN server is configured. */
    readonly turnServer: (session: Session) => Effect.Effect<TurnCredentials | undefined>
  }
>()("greenroom/actors/Voip") {
  static readonly layer = Layer.effect(
    Voip,
    Effect.gen(function* () {
      const { turn } = yield* HomeServerConfig
      const turnServer = Effect.fn("Voip.turnServer")(function* (session: Session) {
        if (turn === undefined) return undefined
        const ttl = turn.ttl ?? defaultTtl
        const username = `${Math.floor((yield* Clock.currentTimeMillis) / 1000) + ttl}:${session.userId}`
        const password = createHmac("sha1", Redacted.value(turn.sharedSecret)).update(username).digest("base64")
        return { username, password, uris: turn.uris, ttl }
      })
      return Voip.of({ turnServer })
    })
  )
}
