/**
 * Background work as in `Supervision`, on one node of the cluster at a time.
 *
 *     yield* periodicallyOnce("Deleting expired tokens", "1 hour", remove)
 */

import { keepRunning, periodically } from "@greenroom/store/Supervision"
import { LeaseLost } from "@greenroom/store/WriteLease"
import * as Cause from "effect/Cause"
import * as Sharding from "effect/cluster/Sharding"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Leases } from "./Leases.ts"

/**
 * As `keepRunning` and `periodically`, on one node of the cluster at a time: another node continues when that one is lost. `name`
 * must be unique. For a while two nodes may do it, where one was stopped and comes back: each step has a lease, so that the
 * node which comes back writes nothing in the middle of one.
 */
export const keepRunningOnce = <R>(
  name: string,
  work: Effect.Effect<unknown, unknown, R>
): Effect.Effect<void, never, R | Scope.Scope | Sharding.Sharding> =>
  Sharding.Sharding.use((sharding) => sharding.registerSingleton(name, keepRunning(name, underLease(work))))

/** As `periodically`, on one node of the cluster at a time. See `keepRunningOnce`. */
export const periodicallyOnce = <R>(
  name: string,
  interval: Duration.Input,
  work: Effect.Effect<unknown, unknown, R>,
  options: { readonly atOnce?: boolean } = {}
): Effect.Effect<void, never, R | Scope.Scope | Sharding.Sharding> =>
  Sharding.Sharding.use((sharding) =>
    sharding.registerSingleton(name, periodically(name, interval, underLease(work), options))
  )

const isLeaseLost = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isDieReason(reason) && reason.defect instanceof LeaseLost)

/** A step under a lease. If the lease is lost, the step runs again: the work has not failed. */
const underLease = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Leases, ({ hold }) => {
    const step: Effect.Effect<A, E, R> = Effect.catchCause(hold(work), (cause) =>
      isLeaseLost(cause) ? Effect.delay(step, "1 second") : Effect.failCause(cause)
    )
    return step
  })
