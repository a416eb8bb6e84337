/**
 * The event log: append-only, one for all rooms, in PostgreSQL. It is the only place where events become durable.
 *
 * Appends of many actors are committed together (group commit): one statement carries everything that waits, and every
 * caller is answered when its own events are durable. With an event travel its state, memberships, the client's
 * transaction ID and the outgoing queue, so that none of them is ever there without the others.
 *
 * Readers follow the log by `(xid, nid)` and never read past the oldest transaction that still runs in this database:
 * what commits late has a position above everything that was read before.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type Cause, Context, Deferred, Effect, Latch, Layer, Queue, ScopedRef } from "effect"
import { SqlClient, type SqlConnection, type SqlError } from "effect/sql"
import { logEdge } from "./internal/logEdge.ts"
import { endOfTransactionsBefore, readAfter, tellAfter } from "./internal/logReader.ts"
import { RecentCommits } from "./internal/RecentCommits.ts"
import { commitStatement } from "./internal/roomCommitStatement.ts"
import { passStoredEvents } from "./internal/transactionNumbers.ts"
import type { LogSlice } from "./LogSlice.ts"
import { makeNumberBlocks, type NumberBlocks } from "./NumberBlocks.ts"
import { CommitFailed, type RoomCommit, StaleWriter } from "./RoomCommit.ts"
import type { StreamPosition } from "./StreamToken.ts"

export type { LogSlice, StreamedEvent, StreamedMembership } from "./LogSlice.ts"
export {
  type ClientTransaction,
  CommitFailed,
  EventStatus,
  type LoggedEvent,
  type MembershipChange,
  type PlacedEvent,
  type RoomCommit,
  type RoomSummary,
  StaleWriter
} from "./RoomCommit.ts"

interface Pending {
  readonly commit: RoomCommit
  readonly done: Deferred.Deferred<void, StaleWriter | CommitFailed>
}

/** How many commits of rooms go into one database transaction at most. */
const maxBatch = 256
/** How often the end of the stream is looked for again while a transaction holds it up. */
const looksForEdge = 50

export class EventLog extends Context.Service<
  EventLog,
  {
    /** Numbers for events. */
    readonly nids: NumberBlocks
    /** Puts a commit in line when it is called, and gives back the wait until it is durable. */
    readonly append: (commit: RoomCommit) => Effect.Effect<void, StaleWriter | CommitFailed>
    /** Everything after a position that is sure to be complete, up to `limit` events. */
    readonly readAfter: (position: StreamPosition, limit: number) => Effect.Effect<LogSlice>
    /** Where the stream ends now: after what this node has committed, unless a transaction of somebody else runs on. */
    readonly currentPosition: Effect.Effect<StreamPosition>
    /** Waits until something was committed on this node since the last call returned. For one reader a node. */
    readonly awaitCommit: Effect.Effect<void>
    /**
     * Waits until something for other servers was committed on this node since the last call returned, and says for
     * which. For one reader a node.
     */
    readonly awaitOutgoing: Effect.Effect<ReadonlySet<ServerName>>
    /** The number of the latest transaction that this node has committed. */
    readonly lastCommitted: () => number
    /** Why the latest commit failed; undefined where it succeeded. */
    readonly lastFailure: () => Cause.Cause<unknown> | undefined
  }
>()("greenroom/store/EventLog") {
  static readonly layer = Layer.effect(
    EventLog,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.orDie(passStoredEvents(sql))
      const nids = yield* makeNumberBlocks(sql, "event_nids", 10_000)
      const pending = yield* Queue.unbounded<Pending>()
      const commits = yield* Queue.sliding<void>(1)
      /** After a failed commit, what the same writer has still in line builds on what is not there. */
      const broken = new Map<number, number>()
      const recent = new RecentCommits()
      let lastCommitted = 0
      let lastFailure: Cause.Cause<unknown> | undefined
      let destinations = new Set<ServerName>()
      const hasDestinations = Latch.makeUnsafe(false)

      const noteOutgoing = ({ outgoing }: RoomCommit) => {
        if (outgoing.length === 0) return
        for (const { destination } of outgoing) destinations.add(destination)
        hasDestinations.openUnsafe()
      }

      const onOwnConnection = yield* makeOwnConnection(sql)

      const commitTogether = Effect.fnUntraced(function* (batch: ReadonlyArray<Pending>) {
        const { fenced, xid } = yield* onOwnConnection(
          commitStatement(
            sql,
            batch.map((item) => item.commit)
          )
        )
        lastCommitted = Math.max(lastCommitted, xid)
        lastFailure = undefined
        // Whoever commits after a failure has opened the room again: what is left of the failed writer is stale.
        for (const { commit } of batch) broken.delete(commit.roomNid)
        recent.add(
          xid,
          batch.flatMap(({ commit }) => (fenced.get(commit.roomNid) === commit.fence ? [commit] : []))
        )
        // What waits is on its way to the database before those are answered who do not wait any more.
        queueMicrotask(() => {
          for (const { commit, done } of batch) {
            const stored = fenced.get(commit.roomNid) === commit.fence
            if (stored) noteOutgoing(commit)
            Deferred.doneUnsafe(done, stored ? Effect.void : new StaleWriter(commit))
          }
        })
      })

      const isBroken = ({ commit }: Pending) => (broken.get(commit.roomNid) ?? -1) >= commit.fence

      const commitAlone = (item: Pending) =>
        Effect.suspend(() => {
          const { fence, roomId, roomNid } = item.commit
          const fail = (untouched: boolean, cause: unknown) => {
            broken.set(roomNid, fence)
            Deferred.doneUnsafe(item.done, new CommitFailed({ roomId, fence, untouched, cause }))
          }
          if (isBroken(item)) return Effect.sync(() => fail(true, "an earlier commit failed"))
          return Effect.catchCause(commitTogether([item]), (cause) =>
            Effect.sync(() => {
              lastFailure = cause
              fail(false, cause)
            })
          )
        })

      /** One room's bad commit must not fail those that happen to be committed with it. */
      const commitBatch = (batch: ReadonlyArray<Pending>) =>
        (batch.some(isBroken)
          ? Effect.forEach(batch, commitAlone, { discard: true })
          : Effect.catchCause(commitTogether(batch), () => Effect.forEach(batch, commitAlone, { discard: true }))
        ).pipe(Effect.andThen(Effect.sync(() => Queue.offerUnsafe(commits, undefined))))

      const prefetch = Effect.forkDetach(nids.refill(1))
      yield* Queue.takeBetween(pending, 1, maxBatch).pipe(
        Effect.flatMap((batch) => Effect.andThen(prefetch, commitBatch(batch))),
        Effect.forever({ disableYield: true }),
        Effect.forkScoped
      )

      const end = sql<{ edge: string }>`SELECT ${logEdge(sql)}::text AS edge`.pipe(
        Effect.map((rows) => endOfTransactionsBefore(rows[0]!.edge)),
        Effect.orDie
      )

      return EventLog.of({
        nids,
        append: (commit) => {
          const done = Deferred.makeUnsafe<void, StaleWriter | CommitFailed>()
          Queue.offerUnsafe(pending, { commit, done })
          return Deferred.await(done)
        },
        readAfter: (position, limit) =>
          Effect.orDie(
            Effect.flatMap(tellAfter(sql, recent, position, limit), (told) =>
              told === undefined ? readAfter(sql, position, limit) : Effect.succeed(told)
            )
          ),
        currentPosition: Effect.suspend(() => {
          const own = lastCommitted
          return Effect.repeat(end, { until: ({ xid }) => xid >= own, times: looksForEdge })
        }),
        awaitCommit: Queue.take(commits),
        awaitOutgoing: Effect.map(hasDestinations.await, () => {
          const taken = destinations
          destinations = new Set()
          hasDestinations.closeUnsafe()
          return taken
        }),
        lastCommitted: () => lastCommitted,
        lastFailure: () => lastFailure
      })
    })
  )
}

/**
 * A connection that nobody else uses, so that a commit never stands behind somebody's slow query. It is kept until
 * something fails on it. For one user at a time.
 */
const makeOwnConnection = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const own = yield* ScopedRef.make<SqlConnection.Connection | undefined>(() => undefined)
  const reserved = Effect.flatMap(ScopedRef.get(own), (connection) =>
    connection === undefined
      ? Effect.andThen(ScopedRef.set(own, sql.reserve), ScopedRef.get(own))
      : Effect.succeed(connection)
  )
  const giveBack = ScopedRef.set(own, Effect.succeed(undefined))
  return <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError.SqlError> =>
    Effect.flatMap(reserved, (connection) =>
      Effect.provideService(effect, sql.transactionService, [connection!, 0] as const)
    ).pipe(Effect.onError(() => giveBack))
})
