/**
 * The event log: append-only, one for all rooms, in PostgreSQL. It is the only place where events become durable.
 *
 * Appends of many actors are committed together (group commit): one statement carries all queued commits, and every caller
 * is answered when its own events are durable. An event's state, memberships, transaction ID and outgoing queue are part of
 * its commit, so that none of them exists without the others.
 *
 * Readers follow the log by `(xid, nid)` and never read past the oldest transaction that still runs in this database: a
 * transaction that commits late has a position above everything that was read before.
 */
import { randomUUID } from "node:crypto"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import {
  type Cause,
  Context,
  Deferred,
  Effect,
  Latch,
  Layer,
  Option,
  Queue,
  References,
  type Scope,
  ScopedRef
} from "effect"
import { SqlClient, type SqlConnection, type SqlError } from "effect/sql"
import { DatabaseHold } from "./DatabaseHold.ts"
import { commitStatement } from "./internal/commit/roomCommitStatement.ts"
import { keepFormerPresence } from "./internal/formerPresence.ts"
import { inBatches } from "./internal/inBatches.ts"
import { type LogFollower, makeLogFollower } from "./internal/LogFollower.ts"
import { makeAnnouncementReader } from "./internal/logAnnouncements.ts"
import { nextOfEnded } from "./internal/logEdge.ts"
import { countOnAfter, lastStored } from "./internal/logEnd.ts"
import { LogEpochs } from "./internal/logEpochs.ts"
import { listenToLog } from "./internal/logNotifications.ts"
import { readAfter, recallAfter } from "./internal/logReader.ts"
import { isReplayable, RecentCommits, rowsOfCommits } from "./internal/RecentCommits.ts"
import type { LogRows } from "./LogKind.ts"
import type { LogSlice } from "./LogSlice.ts"
import { counter, Distribution, distribution, durations, gauge } from "./Measures.ts"
import { makeNumberBlocks, type NumberBlocks } from "./NumberBlocks.ts"
import { CommitFailed, type RoomCommit, StaleWriter } from "./RoomCommit.ts"
import { formatToken, type StreamPosition, type StreamToken } from "./StreamToken.ts"

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

/**
 * How many commits of rooms go into one database transaction at most, and how many events of several commits: a statement is
 * encoded at once, and one of 1,000 events held the event loop up for 20 ms.
 */
const maxBatch = 256

/** The commits of a batch, in the parts that are committed together. A commit of more events is a part of its own. */
const partsOf = (batch: ReadonlyArray<Pending>): ReadonlyArray<ReadonlyArray<Pending>> => {
  const parts: Array<Array<Pending>> = []
  let events = 0
  for (const item of batch) {
    const more = item.commit.events.length
    const part = parts.at(-1)
    if (part !== undefined && events + more <= maxBatch) {
      part.push(item)
      events += more
    } else {
      parts.push([item])
      events = more
    }
  }
  return parts
}

/** The longest wait until followers have earlier commits, because another transaction may run for long. */
const settleTimeout = "2 seconds"

export class EventLog extends Context.Service<
  EventLog,
  {
    /** Numbers for events. */
    readonly nids: NumberBlocks
    /** Queues a commit when it is called, and returns the wait until it is durable. */
    readonly append: (commit: RoomCommit) => Effect.Effect<void, StaleWriter | CommitFailed>
    /**
     * Passes new rows of the log to `consumer`, slice by slice and in order, each row once, until the scope closes. Returns the position
     * after which the slices begin. The log waits for its consumers, so they must be quick. A consumer that fails gets the same
     * slice again.
     */
    readonly follow: (
      consumer: (slice: LogSlice) => Effect.Effect<void>
    ) => Effect.Effect<StreamPosition, never, Scope.Scope>
    /** The last row that this node has read; consumers have received it, or are about to. */
    readonly position: () => StreamPosition
    /**
     * Waits until consumers have handled the earlier commits of this node that the log knows of (`committed`), at most two seconds.
     */
    readonly settled: Effect.Effect<void>
    /**
     * Waits until consumers have handled everything that any node had committed when this was run, at most two seconds. Where other nodes
     * may follow the log, it costs a query for the number of the latest transaction.
     */
    readonly caughtUp: Effect.Effect<void>
    /** Waits until consumers have handled everything up to a transaction, that one included. */
    readonly reached: (xid: number) => Effect.Effect<void>
    /** A number above those of all transactions that have committed rows of the log. */
    readonly nextTransaction: Effect.Effect<number>
    /**
     * Notifies the log that this node has committed rows in a transaction of this number (`log_xid()`), or may have, if the number is
     * unknown. `rows`: all of its rows, if they are in memory. Then they are not read from the database.
     */
    readonly committed: (xid: number | undefined, rows?: LogRows) => void
    /**
     * Notifies the log that a transaction of this node (`log_xid()`) has written no rows of it. Where no other transaction lies between
     * two commits, the later one need not be read from the database.
     */
    readonly wroteNothing: (xid: number) => void
    /** Runs work in a transaction that writes rows of the log, and calls `committed`. */
    readonly transaction: <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError.SqlError, R>
    /** Whether other nodes may follow the log: they are notified of new rows. */
    readonly wakesOthers: () => boolean
    /** Whether other nodes are known to follow the log: the rows of commits are then announced to them, and need not be read. */
    readonly isFollowed: (byOthers: boolean) => void
    /** For how many milliseconds there have been rows that no node can read yet, because an older transaction is running. */
    readonly lag: Effect.Effect<number>
    /** All rows after a position and below the low watermark, up to `limit` rows of a kind. */
    readonly readAfter: (position: StreamPosition, limit: number) => Effect.Effect<LogSlice>
    /** The end of the stream: `position`, once `settled`. */
    readonly currentPosition: Effect.Effect<StreamPosition>
    /** The epoch for tokens of positions up to `position`. */
    readonly epoch: () => string
    /** The token of a position, also of one that this node has not read yet. `cut`: how far other streams were read. */
    readonly tokenOf: (position: StreamPosition, cut?: StreamToken["cut"]) => Effect.Effect<string>
    /**
     * Whether a token is from a lost future: the database was restored from a backup older than the token. Its reader needs more than the
     * rows after the token.
     */
    readonly isLost: (token: StreamToken) => Effect.Effect<boolean>
    /**
     * The position of a token. For a lost one, the position of the last row before its epoch ended here, where its reader continues.
     * Undefined if the epoch is unknown.
     */
    readonly lastKnown: (token: StreamToken) => Effect.Effect<StreamPosition | undefined>
    /**
     * Waits until this node has committed something for other servers since the last call, and returns these servers. For one reader
     * per node.
     */
    readonly awaitOutgoing: Effect.Effect<ReadonlySet<ServerName>>
    /** The number of the latest transaction that this node has committed. */
    readonly lastCommitted: () => number
    /** The failure of the latest commit; undefined if it succeeded. */
    readonly lastFailure: () => Cause.Cause<unknown> | undefined
  }
>()("greenroom/store/EventLog") {
  static readonly layer = Layer.effect(
    EventLog,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      // A process that holds the database alone has no other followers.
      const isAlone = Option.exists(yield* Effect.serviceOption(DatabaseHold), ({ mode }) => mode === "alone")
      const nids = yield* makeNumberBlocks(sql, "event_nids", 10_000)
      const pending = yield* Queue.unbounded<Pending>()
      /** Writers with a failed commit: their queued commits build on events that do not exist. */
      const broken = new Map<number, number>()
      const recent = new RecentCommits()
      const announcer = randomUUID().slice(0, 8)
      let isShared = false
      let lastCommitted = 0
      let lastFailure: Cause.Cause<unknown> | undefined
      let destinations = new Set<ServerName>()
      const hasDestinations = Latch.makeUnsafe(false)

      // Reading

      const read = (position: StreamPosition, limit: number) =>
        Effect.orDie(
          Effect.flatMap(recallAfter(sql, recent, position, limit, isShared), (recalled) =>
            recalled === undefined ? readAfter(sql, position, limit) : Effect.succeed(recalled)
          )
        )

      const epochs = new LogEpochs(sql)
      const { follower, isListening } = yield* joinLog(
        sql,
        epochs,
        recent,
        read,
        makeAnnouncementReader(announcer, recent)
      )

      /** The number of the current transaction. */
      const ownTransaction = Effect.map(sql<{ xid: string }>`SELECT log_xid()::text AS xid`, ([row]) =>
        Number(row!.xid)
      )

      const reachedInTime = (xid: number) =>
        follower.hasReached(xid)
          ? Effect.void
          : Effect.asVoid(Effect.timeoutOption(follower.reached(xid), settleTimeout))
      const settled = Effect.suspend(() => reachedInTime(lastCommitted))

      const committed = (xid: number | undefined, rows?: LogRows) => {
        if (xid !== undefined) {
          if (rows !== undefined) recent.add(xid, { events: [], memberships: [], rows }, 0)
          lastCommitted = Math.max(lastCommitted, xid)
        }
        follower.wake(xid)
      }

      // Writing

      const noteOutgoing = ({ outgoing }: RoomCommit) => {
        if (outgoing.length === 0) return
        for (const { destination } of outgoing) destinations.add(destination)
        hasDestinations.openUnsafe()
      }

      const wakesOthers = () => isShared || !isAlone
      const onOwnConnection = yield* makeOwnConnection(sql)
      const measured = { events: 0, commits: 0, failures: 0, durations: new Distribution(durations) }

      const commitTogether = Effect.fnUntraced(function* (batch: ReadonlyArray<Pending>) {
        const begunAt = performance.now()
        const { characters, fenced, xid } = yield* onOwnConnection(
          commitStatement(
            sql,
            batch.map((item) => item.commit),
            isShared ? { wakesOthers: true, announcer } : { wakesOthers: wakesOthers() }
          )
        )
        lastFailure = undefined
        measured.durations.record((performance.now() - begunAt) / 1_000)
        measured.commits++
        for (const { commit } of batch) measured.events += commit.events.length
        // A commit after a failure comes from a writer that reopened the room: queued commits of the failed one are stale.
        for (const { commit } of batch) broken.delete(commit.roomNid)
        const stored = batch.flatMap(({ commit }) => (fenced.get(commit.roomNid) === commit.fence ? [commit] : []))
        if (stored.length > 0 && isReplayable(stored)) recent.add(xid, rowsOfCommits(xid, stored), characters)
        lastCommitted = Math.max(lastCommitted, xid)
        // Queued commits go to the database before interrupted callers are answered, and callers are answered before readers wake: a
        // room may have a thousand of these.
        queueMicrotask(() => {
          for (const { commit, done } of batch) {
            const stored = fenced.get(commit.roomNid) === commit.fence
            if (stored) noteOutgoing(commit)
            Deferred.doneUnsafe(done, stored ? Effect.void : new StaleWriter(commit))
          }
          follower.wake(xid)
        })
      })

      const caughtUp = Effect.suspend(() =>
        wakesOthers()
          ? Effect.flatMap(Effect.orDie(nextOfEnded(sql)), (next) => {
              follower.wake(next - 1)
              return reachedInTime(Math.max(next - 1, lastCommitted))
            })
          : settled
      )

      const isBroken = ({ commit }: Pending) => (broken.get(commit.roomNid) ?? -1) >= commit.fence

      const commitAlone = (item: Pending) =>
        Effect.suspend(() => {
          const { fence, roomId, roomNid } = item.commit
          const fail = (untouched: boolean, cause: unknown) => {
            broken.set(roomNid, fence)
            follower.wake()
            Deferred.doneUnsafe(item.done, new CommitFailed({ roomId, fence, untouched, cause }))
          }
          if (isBroken(item)) return Effect.sync(() => fail(true, "an earlier commit failed"))
          return Effect.catchCause(commitTogether([item]), (cause) =>
            Effect.sync(() => {
              lastFailure = cause
              measured.failures++
              fail(false, cause)
            })
          )
        })

      /** Commits a batch, so that a bad commit of one room does not fail those of other rooms. */
      const commitBatch = (batch: ReadonlyArray<Pending>) =>
        batch.some(isBroken)
          ? Effect.forEach(batch, commitAlone, { discard: true })
          : Effect.catchCause(commitTogether(batch), () => Effect.forEach(batch, commitAlone, { discard: true }))

      yield* measureLog(measured, () => Queue.sizeUnsafe(pending), follower)

      const prefetch = Effect.forkDetach(nids.refill(1))
      yield* inBatches(pending, maxBatch, (batch) =>
        Effect.andThen(prefetch, Effect.forEach(partsOf(batch), commitBatch, { discard: true }))
      )

      return EventLog.of({
        nids,
        append: (commit) => {
          const done = Deferred.makeUnsafe<void, StaleWriter | CommitFailed>()
          Queue.offerUnsafe(pending, { commit, done })
          const committed = Deferred.await(done)
          return Effect.withFiber((fiber) =>
            Context.get(fiber.context, References.TracerEnabled)
              ? Effect.withSpan(committed, "EventLog.append", { attributes: { "log.events": commit.events.length } })
              : committed
          )
        },
        follow: follower.follow,
        position: follower.position,
        settled,
        caughtUp,
        committed,
        wroteNothing: (xid) => {
          // Such a transaction may be lost in a crash of PostgreSQL, and another one get its number.
          if (isListening()) recent.add(xid, { events: [], memberships: [] }, 0)
        },
        transaction: (work) =>
          Effect.map(sql.withTransaction(Effect.all([work, ownTransaction])), ([result, xid]) => {
            committed(xid)
            return result
          }),
        wakesOthers,
        reached: (xid) =>
          Effect.suspend(() => {
            follower.wake(xid)
            return follower.reached(xid)
          }),
        nextTransaction: Effect.orDie(ownTransaction),
        isFollowed: (byOthers) => {
          isShared = byOthers
        },
        lag: Effect.sync(follower.lagNow),
        readAfter: read,
        currentPosition: Effect.map(settled, follower.position),
        epoch: () => epochs.current,
        tokenOf: (position, cut) =>
          Effect.orDie(
            Effect.map(epochs.of(position, follower.position()), (epoch) =>
              formatToken({ position, epoch, ...(cut === undefined ? {} : { cut }) })
            )
          ),
        isLost: (token) => Effect.orDie(epochs.isLost(token, follower.position())),
        lastKnown: (token) => Effect.orDie(epochs.lastKnown(token, follower.position())),
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

/** The metrics of the log. */
const measureLog = (
  measured: {
    readonly events: number
    readonly commits: number
    readonly failures: number
    readonly durations: Distribution
  },
  waiting: () => number,
  follower: LogFollower
) =>
  Effect.all([
    counter("greenroom_events_total", "Events that were committed", () => measured.events),
    counter("greenroom_commits_total", "Group commits of events", () => measured.commits),
    counter("greenroom_commit_failures_total", "Commits of events that failed", () => measured.failures),
    distribution("greenroom_commit_duration_seconds", "How long group commits take", measured.durations),
    gauge("greenroom_commits_waiting", "Commits of rooms that wait for the next group commit", waiting),
    gauge(
      "greenroom_log_lag_seconds",
      "For how long there have been rows of the log that cannot be read yet, because an older transaction is running",
      () => follower.lagNow() / 1_000
    )
  ])

/** Registers this node as a follower, begins an epoch, and starts the single reader of this node. */
const joinLog = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  epochs: LogEpochs,
  recent: RecentCommits,
  read: (position: StreamPosition, limit: number) => Effect.Effect<LogSlice>,
  announced: (payload: string) => void
) {
  let hasJoined = false
  let follower: LogFollower | undefined
  let isListening = false

  const lost = () => {
    isListening = false
    recent.clear()
    follower?.rereadAfterLast()
  }

  const join = Effect.fnUntraced(function* (isFirst: boolean) {
    // Without other nodes the database may have been restored from a backup: users who were online are offline now.
    const starts = isFirst && !hasJoined
    const follows = starts ? yield* lastStored(sql) : undefined
    if (follows !== undefined) yield* countOnAfter(sql, follows)
    yield* sql.withTransaction(
      Effect.gen(function* () {
        if (starts) {
          yield* keepFormerPresence(sql)
          yield* sql`TRUNCATE short_lived, short_lived_marker`
        }
        // The marker is missing after a crash of PostgreSQL: one of the nodes that notice begins the epoch.
        const fresh = yield* sql`INSERT INTO short_lived_marker DEFAULT VALUES ON CONFLICT DO NOTHING RETURNING 1`
        if (!hasJoined || fresh.length > 0) yield* epochs.begin({ follows, fresh: fresh.length > 0 })
      })
    )
    hasJoined = true
    isListening = true
  })

  /** Reads epochs before the position advances, because a token of the position has the epoch that began there. */
  const readWithEpochs = (position: StreamPosition, limit: number) =>
    Effect.map(read(position, limit), (slice) => {
      epochs.read(slice)
      return slice
    })

  yield* listenToLog({ wake: (xid) => follower?.wake(xid), announced, lost, join })
  follower = yield* makeLogFollower(yield* lastStored(sql, { complete: true }), readWithEpochs)
  // Another node may have begun an epoch before the position where this one starts to read.
  yield* epochs.readNewest
  follower.wake()
  return { follower, isListening: () => isListening }
}, Effect.orDie)

/**
 * A connection for commits only, so that a commit never waits for another query. It is kept until something fails on it. For one
 * user at a time.
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
