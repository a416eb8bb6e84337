/**
 * The lease under which work uses the database: a changing request, or a step of a singleton. A node that was stopped or cut
 * off loses its leases once others may have its shards, so that what it began before is not written over what they wrote
 * meanwhile. Two parts make this certain:
 *
 * - `PooledClient` lends no connection once the lease has ended.
 * - The node that takes the shards ends the connections that the lost one already had (`ShardFenceStore.raise`).
 *
 * Work without a lease (undefined, the default) is not bound: that of a process that runs alone, and reading.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

export interface Lease {
  /** Whether the node has not been away since the work began. */
  readonly stands: () => boolean
}

export const WriteLease = Context.Reference<Lease | undefined>("greenroom/store/WriteLease", {
  defaultValue: () => undefined
})

/** The node was away while it did this: stopped, or cut off from the database. A defect; clients get 503. */
export class LeaseLost extends Error {
  readonly _tag = "LeaseLost"
  override readonly name = "LeaseLost"
}

/** `effect`, or `LeaseLost` if the lease of the fiber has ended. */
export const underLease = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    Context.get(fiber.context, WriteLease)?.stands() === false
      ? Effect.die(new LeaseLost("This node was stopped or cut off while it handled this"))
      : effect
  )
