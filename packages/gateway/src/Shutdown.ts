/**
 * Whether the gateway is shutting down. If so, `/health` reports it, long polls are answered, sockets are closed, and new requests
 * are refused, so that those in flight can end.
 */
import { Departure } from "@greenroom/actors/runtime/Departure"
import { Context, Effect, Layer } from "effect"

/** Whether the gateway is shutting down. */
export class Shutdown extends Context.Service<
  Shutdown,
  {
    readonly isRequested: () => boolean
    /** Calls `listener` when the gateway begins to shut down. The result removes the listener. */
    readonly onRequest: (listener: () => void) => () => void
    readonly request: Effect.Effect<void>
  }
>()("greenroom/gateway/Shutdown") {
  static readonly layer: Layer.Layer<Shutdown, never, Departure> = Layer.effect(
    Shutdown,
    Effect.map(Departure, (departure) => {
      const listeners = new Set<() => void>()
      let requested = false
      return Shutdown.of({
        isRequested: () => requested,
        onRequest: (listener) => {
          listeners.add(listener)
          return () => listeners.delete(listener)
        },
        request: Effect.andThen(
          departure.begin,
          Effect.sync(() => {
            requested = true
            for (const listener of [...listeners]) listener()
          })
        )
      })
    })
  )
}
