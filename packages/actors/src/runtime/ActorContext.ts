/**
 * What actors of one kind have around them. Each actor in memory keeps copies of the services that its layer was made
 * with; given those of the whole process, the copies would be most of a small actor. So an actor of which there are many
 * is given what it uses.
 */
import { Clock, Context, Effect, Layer, Logger, References, Tracer } from "effect"
import { Sharding } from "effect/cluster"

/** Time, logs and traces, and the runner that has the actor. */
const always = [
  Clock.Clock,
  Logger.CurrentLoggers,
  References.MinimumLogLevel,
  References.TracerEnabled,
  Tracer.Tracer,
  Sharding.Sharding
] as const

/** The layer of an actor, made with these services and no others. */
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
