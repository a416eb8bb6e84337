/**
 * Whether the gateway is going down. Once it is, `/health` says so, long polls are answered, sockets are closed, and
 * what is asked anew is refused, so that everything that began can end.
 */
import { Context, Deferred, Effect, Layer } from "effect"

export class Shutdown extends Context.Service<
  Shutdown,
  {
    readonly isRequested: () => boolean
    /** Waits until the gateway is to go down. */
    readonly requested: Effect.Effect<void>
    readonly request: Effect.Effect<void>
  }
>()("greenroom/gateway/Shutdown") {
  static readonly layer: Layer.Layer<Shutdown> = Layer.sync(Shutdown, () => {
    const deferred = Deferred.makeUnsafe<void>()
    return Shutdown.of({
      isRequested: () => Deferred.isDoneUnsafe(deferred),
      requested: Deferred.await(deferred),
      request: Effect.asVoid(Deferred.succeed(deferred, undefined))
    })
  })
}
