/**
 * The presence of users of other servers, for `Presences`. The federation provides the service
 * (`federation/RemotePresences.ts`); its results go to the `EphemeralStream`.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"

/** The presence of users of other servers, provided by `federation/RemotePresences`. */
export class RemotePresenceLookup extends Context.Service<
  RemotePresenceLookup,
  {
    /** Polls the servers of those users of other servers whose presence is unknown. Does not wait for the answers. */
    readonly want: (userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
    /** Asks the server of a user of another server for the presence, unless it is known. Waits a few seconds. */
    readonly fetch: (userId: UserId) => Effect.Effect<void>
  }
>()("greenroom/actors/presence/RemotePresenceLookup") {
  /** For a server without federation. */
  static readonly layerNone = Layer.succeed(RemotePresenceLookup, {
    want: () => Effect.void,
    fetch: () => Effect.void
  })
}
