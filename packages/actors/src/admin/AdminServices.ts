/**
 * The services of administrators, which few processes need: they are loaded when the first of them is asked for.
 *
 *     const { load } = yield* AdminServices
 *     const rooms = Context.get(yield* load, RoomAdministration)
 */
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import { UserRedactionStore } from "@greenroom/store/UserRedactionStore"
import { Context, Effect, Layer, Scope } from "effect"
import { handleEach } from "../runtime/ItemFailure.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { signalsOfWork } from "../runtime/WorkSignals.ts"
import type { layer as loadedLayer } from "./LoadedAdminServices.ts"

type Loaded = Layer.Success<typeof loadedLayer>
type Needed = Layer.Services<typeof loadedLayer>

const make = Effect.gen(function* () {
  const context = yield* Effect.context<Needed>()
  const scope = yield* Effect.scope
  const removals = yield* RoomRemovalStore
  const redactions = yield* UserRedactionStore
  const notices = yield* NoticeStore

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
    yield* handleEach(unfinished, ({ removalId }) => run(removalId), 2)
  })
  const removalsAreAdded = yield* signalsOfWork("removals")
  yield* keepRunningOnce("Removing rooms and history", Effect.andThen(finishRemovals, removalsAreAdded))

  const finishRedactions = Effect.gen(function* () {
    const unfinished = yield* redactions.unfinished
    if (unfinished.length === 0) return
    const { UserRedactions } = yield* Effect.promise(() => import("./UserRedactions.ts"))
    const { run } = Context.get(yield* load, UserRedactions)
    yield* handleEach(unfinished, ({ redactId }) => run(redactId), 2)
  })
  const redactionsAreAdded = yield* signalsOfWork("user redactions")
  yield* keepRunningOnce("Redacting the events of users", Effect.andThen(finishRedactions, redactionsAreAdded))

  const sendNotices = Effect.gen(function* () {
    if ((yield* notices.waiting(1)).length === 0) return
    const { ServerNotices } = yield* Effect.promise(() => import("./ServerNotices.ts"))
    yield* Context.get(yield* load, ServerNotices).sendWaiting
  })
  const noticesAreAdded = yield* signalsOfWork("server notices")
  yield* keepRunningOnce("Sending server notices", Effect.andThen(sendNotices, noticesAreAdded))

  return AdminServices.of({ load })
})

/** Loads the services of administrators on first use. */
export class AdminServices extends Context.Service<
  AdminServices,
  { readonly load: Effect.Effect<Context.Context<Loaded>> }
>()("greenroom/actors/AdminServices") {
  static readonly layer = Layer.effect(AdminServices, make)
}
