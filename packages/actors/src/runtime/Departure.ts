/**
 * The end of this node, and of actors that move to another one. Requests to others (home servers, identity servers,
 * application services, providers of logins, web pages) may take long and must delay neither. Those that are open a moment
 * after the end has begun are given up. By then they have stored nothing that a crash at that moment would have left out.
 * Clients that wait for them get 503 with `Retry-After`.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { NodeUnavailable } from "./NodeUnavailable.ts"

/** How long open requests to other servers may still take. */
const graceTime = Duration.seconds(1)

/** Done when the actor whose handler runs is to leave memory. */
export const ActorLeaving = Context.Reference<Effect.Effect<void>>("greenroom/runtime/ActorLeaving", {
  defaultValue: () => Effect.never
})

/** Gives up requests to others when this node ends or an actor moves. */
export class Departure extends Context.Service<
  Departure,
  {
    /** This node goes down. */
    readonly begin: Effect.Effect<void>
    /** A wait for another server. It is given up, with the defect `NodeUnavailable`, where the node or the actor does not stay. */
    readonly whileStaying: <A, E, R>(waiting: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  }
>()("greenroom/runtime/Departure") {
  static readonly layer: Layer.Layer<Departure> = Layer.sync(Departure, () => {
    let isBegun = false
    const over = Deferred.makeUnsafe<void>()
    const givenUp = Effect.flatMap(ActorLeaving, (leaving) =>
      Effect.raceFirst(Deferred.await(over), Effect.andThen(leaving, Effect.sleep(graceTime))).pipe(
        Effect.flatMap(() =>
          Effect.die(new NodeUnavailable("A request to another server was given up: its node goes down"))
        )
      )
    )
    return Departure.of({
      begin: Effect.suspend(() => {
        if (isBegun) return Effect.void
        isBegun = true
        return Effect.asVoid(Effect.forkDetach(Effect.delay(Deferred.succeed(over, undefined), graceTime)))
      }),
      whileStaying: (waiting) => Effect.raceFirst(waiting, givenUp)
    })
  })
}
