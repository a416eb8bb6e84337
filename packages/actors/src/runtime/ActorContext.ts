/**
 * The context that the actors of one kind run in. Each actor in memory holds a copy of the context that its layer was built
 * with; with all services of the process, that copy would be most of the memory of a small actor. So kinds with many
 * actors are built with the services that they use.
 */
import { Clock, Context, Effect, Layer, Logger, References, Tracer } from "effect"
import { Sharding } from "effect/cluster"

/** Time, logs and traces, and the runner of the actor. */
const always = [
  Clock.Clock,
  Logger.CurrentLoggers,
  References.MinimumLogLevel,
  References.TracerEnabled,
  Tracer.Tracer,
  Sharding.Sharding
] as const

/** The layer of an actor, built with these services and no others. */
export const madeWith =
  <S extends ReadonlyArray<Context.Key<unknown, unknown>>>(...services: S) =>
  <E>(actor: Layer.Layer<never, E, Services<S>>): Layer.Layer<never, E, Services<S>> => {
    const pick = Context.pick(...always, ...services) as (
      all: Context.Context<Services<S>>
    ) => Context.Context<Services<S>>
    return Layer.fromBuildMemo((memoMap, scope) =>
      Effect.updateContext(Layer.buildWithMemoMap(actor, memoMap, scope), pick)
    )
  }

type Services<S extends ReadonlyArray<Context.Key<unknown, unknown>>> =
  | Sharding.Sharding
  | Context.Service.Identifier<S[number]>
