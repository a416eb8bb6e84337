/**
 * The services of administrators, which few processes need: they are loaded when the first of them is asked for.
 *
 *     const { load } = yield* AdminServices
 *     const rooms = Context.get(yield* load, RoomAdministration)
 */
import { RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import { Context, Effect, Layer, Scope } from "effect"
import { periodicallyOnce } from "../runtime/Supervision.ts"
import type { layer as loadedLayer } from "./LoadedAdminServices.ts"

type Loaded = Layer.Success<typeof loadedLayer>
type Needed = Layer.Services<typeof loadedLayer>

/** How soon a removal begins that the command line has asked for, or goes on that a lost node has begun. */
const removalInterval = "5 seconds"

const make = Effect.gen(function* () {
  const context = yield* Effect.context<Needed>()
  const scope = yield* Effect.scope
  const removals = yield* RoomRemovalStore

  const load: Effect.Effect<Context.Context<Loaded>> = yield* Effect.cached(
    Effect.promise(() => import("./LoadedAdminServices.ts")).pipe(
      Effect.flatMap(({ layer }) => Layer.build(layer)),
      Effect.provideContext(context),
      Scope.provide(scope),
      Effect.orDie
    )
  )

  const finishRemovals = Effect.gen(function* () {
    const unfinished = yield* removals.unfinishedRemovals
    if (unfinished.length === 0) return
    const { RoomRemovals } = yield* Effect.promise(() => import("./RoomRemovals.ts"))
    const { run } = Context.get(yield* load, RoomRemovals)
    yield* Effect.forEach(unfinished, ({ removalId }) => run(removalId), { concurrency: 2, discard: true })
  })
  yield* periodicallyOnce("Removing rooms and history", removalInterval, finishRemovals)

  return AdminServices.of({ load })
})

export class AdminServices extends Context.Service<
  AdminServices,
  { readonly load: Effect.Effect<Context.Context<Loaded>> }
>()("greenroom/actors/AdminServices") {
  static readonly layer = Layer.effect(AdminServices, make)
}
