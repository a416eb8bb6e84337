/**
 * Sampling of traces. Tracing is off for the process (`TracerEnabled`), and on for the sampled part of requests and
 * background work: other work pays one look into its context.
 */
import { Context, Effect, References, type Tracer } from "effect"

/** The part of the work that is traced, from 0 to 1. */
export class SamplingRatio extends Context.Reference<number>("greenroom/actors/SamplingRatio", {
  defaultValue: () => 0
}) {}

/** Makes the beginning of a trace of each piece of work that is sampled. */
export const makeSampled = Effect.map(
  Effect.service(SamplingRatio),
  (ratio) =>
    <A, E, R>(
      name: string,
      options: Pick<Tracer.SpanOptions, "attributes" | "kind">,
      work: Effect.Effect<A, E, R>
    ): Effect.Effect<A, E, R> =>
      ratio === 0
        ? work
        : Effect.suspend(() =>
            Math.random() < ratio
              ? Effect.provideService(
                  Effect.withSpan(work, name, { ...options, root: true }) as Effect.Effect<A, E, R>,
                  References.TracerEnabled,
                  true
                )
              : work
          )
)

/** Whether the work of this context is traced. */
export const isTraced = (context: Context.Context<never>): boolean => Context.get(context, References.TracerEnabled)

/** The function with a span around it where its caller is traced. */
export const traced =
  <Args extends ReadonlyArray<unknown>, A, E, R>(name: string, work: (...args: Args) => Effect.Effect<A, E, R>) =>
  (...args: Args): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) =>
      isTraced(fiber.context) ? (Effect.withSpan(work(...args), name) as Effect.Effect<A, E, R>) : work(...args)
    )
