/**
 * Effect's lock storage, for nodes that may be slow. Effect gives up every lock of a node where one operation takes a third of
 * `shardLockExpiration`: the storage closes the connection that holds the locks, and `Sharding` stops all actors. It does so even
 * where the answer has arrived and the process had no time to read it. Here:
 *
 * - Deadlines of operations count the time in which the process ran (`RunningTime`), and are as long as the hold of the shards
 *   lasts, less one refresh.
 * - An operation is not cut off where `Sharding` no longer waits for it. Its result is that of the next request.
 * - While the hold of the shards lasts, a refresh that takes long is answered from the last one. A node that was really away
 *   finds its connection ended by PostgreSQL, or no answer within its hold, and gives up its shards.
 */
import { Clock, Duration, Effect, Fiber, Layer, Option, Semaphore } from "effect"
import { type ClusterError, RunnerStorage, type ShardId } from "effect/cluster"
import * as RunningTime from "./RunningTime.ts"
import type { ShardMoves } from "./ShardMoves.ts"

interface ShardLockOptions {
  /** Whether the node has refreshed its locks so recently that others cannot have them. */
  readonly isCurrent: () => boolean
  readonly moves: ShardMoves
  /** How many times as long operations may take as in Effect's storage. */
  readonly deadlineFactor: number
}

/**
 * How many shards are given back at once. Each takes two statements on the one connection that holds the locks, and the others
 * wait behind them.
 */
const releasesAtOnce = 4

/** How long a refresh is waited for before it is answered from the last one: less than the interval of refreshes. */
const refreshTimeout = "1 second"

type Shards = ReadonlyArray<ShardId.ShardId>

/** Operations of one kind, one at a time: requests meanwhile share its result, as far as it concerns their shards. */
class Shared {
  private running:
    | { readonly shards: ReadonlySet<ShardId.ShardId>; readonly fiber: Fiber.Fiber<Shards, Failure> }
    | undefined
  private readonly start: (shards: Shards) => Effect.Effect<Fiber.Fiber<Shards, Failure>>

  constructor(start: (shards: Shards) => Effect.Effect<Fiber.Fiber<Shards, Failure>>) {
    this.start = start
  }

  /** The shards that the operation gave, and those that the running one was not asked for. */
  run(shards: Shards): Effect.Effect<{ readonly given: Shards; readonly unasked: Shards }, Failure> {
    return Effect.flatMap(this.operation(shards), ({ fiber, shards: asked }) =>
      Effect.map(Fiber.join(fiber), (result) => {
        const given = new Set(result)
        return {
          given: shards.filter((shard) => given.has(shard)),
          unasked: shards.filter((shard) => !asked.has(shard))
        }
      })
    )
  }

  private operation(shards: Shards) {
    const { running } = this
    if (running !== undefined) return Effect.succeed(running)
    return Effect.map(this.start(shards), (fiber) => {
      const begun = { shards: new Set(shards), fiber }
      this.running = begun
      fiber.addObserver(() => {
        if (this.running === begun) this.running = undefined
      })
      return begun
    })
  }
}

type Failure = ClusterError.PersistenceError

/** A clock that makes deadlines longer. */
const stretched = (clock: Clock.Clock, times: number): Clock.Clock => ({
  ...clock,
  sleep: (duration) => clock.sleep(Duration.times(duration, times))
})

/** `RunnerStorage` on Effect's own one. */
export const layer = ({ deadlineFactor, isCurrent, moves }: ShardLockOptions) =>
  Layer.effect(
    RunnerStorage.RunnerStorage,
    Effect.gen(function* () {
      const storage = yield* RunnerStorage.RunnerStorage
      const scope = yield* Effect.scope
      const clock = stretched(RunningTime.make(yield* Clock.Clock), deadlineFactor)
      const releases = Semaphore.makeUnsafe(releasesAtOnce).withPermits(1)

      const start = <A, E>(operation: Effect.Effect<A, E>) =>
        Effect.forkIn(Effect.provideService(operation, Clock.Clock, clock), scope, { startImmediately: true })
      const whole = <A, E>(operation: Effect.Effect<A, E>) => Effect.flatMap(start(operation), Fiber.join)

      type Address = Parameters<typeof storage.release>[0]
      let here: Address | undefined
      /** Frees all locks; undefined if locks were taken since. */
      let releasingAll: Fiber.Fiber<void, Failure> | undefined
      /** Frees all locks of a node that goes down by one statement, instead of two for each. */
      const releaseAtEnd = (address: Address) =>
        Effect.flatMap(
          Effect.suspend(() =>
            releasingAll === undefined ? start(storage.releaseAll(address)) : Effect.succeed(releasingAll)
          ),
          (fiber) => {
            releasingAll = fiber
            return Effect.onError(Fiber.join(fiber), () => Effect.sync(() => (releasingAll = undefined)))
          }
        )

      const acquires = new Shared((shards) => start(storage.acquire(here!, shards)))
      const refreshes = new Shared((shards) => start(storage.refresh(here!, shards)))

      return RunnerStorage.RunnerStorage.of({
        ...storage,
        acquire: (address, shards) => {
          here = address
          return Effect.map(acquires.run([...shards]), ({ given }) => {
            releasingAll = undefined
            return [...given]
          })
        },
        refresh: (address, shards) => {
          here = address
          const wanted = [...shards]
          // A probe, where the locks are lost.
          if (wanted.length === 0) return whole(storage.refresh(address, wanted))
          // Shards that came after the running refresh began are refreshed next time.
          const refreshed = Effect.map(refreshes.run(wanted), ({ given, unasked }) => [...given, ...unasked])
          return Effect.flatMap(Effect.timeoutOption(refreshed, refreshTimeout), (result) => {
            if (Option.isSome(result)) return Effect.succeed(result.value)
            return isCurrent() ? Effect.succeed(wanted) : refreshed
          })
        },
        release: (address, shard) =>
          Effect.ensuring(
            releases(
              Effect.suspend(() =>
                moves.areAllStopped ? releaseAtEnd(address) : whole(storage.release(address, shard))
              )
            ),
            Effect.sync(() => moves.leave(shard))
          ),
        releaseAll: (address) =>
          Effect.ensuring(
            whole(storage.releaseAll(address)),
            Effect.sync(() => moves.leaveAll())
          )
      })
    })
  )
