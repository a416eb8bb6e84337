/**
 * Leases of work that belongs to no actor (`WriteLease`): requests that change something, and steps of singletons. Each is begun
 * by this node and is lost with the node's hold of its shards: when the node goes on after it was stopped or cut off, what it
 * had begun fails with `LeaseLost`, and is answered 503, since others may have answered and written since.
 *
 * A process that runs alone gives no leases.
 */
import { type Lease, WriteLease } from "@greenroom/store/WriteLease"
import { Context, Effect } from "effect"

/** The leases of this node. */
export const Leases = Context.Reference<{
  /** Runs work under a lease that begins now. What the work leaves behind in other fibers is not bound once it has ended. */
  readonly hold: <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * Whether the node began or came back a moment ago. Requests that were sent to it while it was stopped arrive now, and their clients
   * may have given them up.
   */
  readonly isBack: () => boolean
}>("greenroom/actors/Leases", { defaultValue: () => ({ hold: (work) => work, isBack: () => false }) })

/** `begin` returns a function that tells whether the node has been present all the time since. */
export const make = (begin: () => () => boolean, isBack: () => boolean): (typeof Leases)["Service"] => ({
  isBack,
  hold: (work) =>
    Effect.suspend(() => {
      const isThere = begin()
      let isOver = false
      const lease: Lease = { stands: () => isOver || isThere() }
      return Effect.ensuring(
        Effect.provideService(work, WriteLease, lease),
        Effect.sync(() => {
          isOver = true
        })
      )
    })
})
