/**
 * Requests that change something run to their end when the client disconnects: a lost connection does not leave half of a
 * change behind. All methods but GET count as changes. A GET ends with its client, unless its handler is registered as
 * uninterruptible itself. A wait within a change must be made interruptible there.
 *
 * Each change holds a lease: a node that was paused during a change does not finish it over later writes of other nodes.
 *
 * The actors do the same for their messages (`ClusterSchema.Uninterruptible` in their protocols); this covers what a
 * service does before and after it asks an actor.
 */
import { Leases } from "@greenroom/actors/runtime/Leases"
import { Effect, Layer } from "effect"
import { HttpRouter } from "effect/http"

/** Registers the routes of a layer so that changes run to their end. */
export const layer: Layer.Layer<HttpRouter.HttpRouter, never, HttpRouter.HttpRouter> = Layer.effect(
  HttpRouter.HttpRouter,
  Effect.gen(function* () {
    const router = yield* HttpRouter.HttpRouter
    const { hold } = yield* Leases
    return HttpRouter.HttpRouter.of({
      ...router,
      addAll: (routes) =>
        router.addAll(
          routes.map((route) =>
            route.method === "GET" ? route : { ...route, handler: hold(route.handler), uninterruptible: true }
          ) as unknown as typeof routes
        )
    })
  })
)
