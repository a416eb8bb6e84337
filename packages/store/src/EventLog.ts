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
import type { Event } from "@greenroom/protocol/Event"
import { isEventId, type RoomId, type ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { Context, Deferred, Effect, Latch, Layer, Queue, Schema, ScopedRef } from "effect"
import { SqlClient, type SqlConnection, type SqlError } from "effect/sql"
import { logEdge } from "./internal/logEdge.ts"
import { RecentCommits } from "./internal/RecentCommits.ts"
import { passStoredEvents } from "./internal/transactionNumbers.ts"
import { makeNumberBlocks, type NumberBlocks } from "./NumberBlocks.ts"
import { bigints, integers, textArrayLiteral, texts } from "./PgArrays.ts"
import { deltaColumns, type NewChain, type StateDelta, type StateRef } from "./StateStore.ts"
import { comparePositions, endOfTransaction, type StreamPosition } from "./StreamToken.ts"

/** What became of an event. Only `timeline` events reach the stream; `backfilled` ones are history. */
export const EventStatus = { timeline: 0, backfilled: 1, softFailed: 2, rejected: 3, outlier: 4 } as const
export type EventStatus = (typeof EventStatus)[keyof typeof EventStatus]

/** An event with its number, the state before it, and the state after it where that is another. */
export interface LoggedEvent {
  readonly nid: number
  readonly event: Event
  readonly status: EventStatus
  readonly stateBefore: StateRef | null
  readonly stateAfter?: StateRef
  /** The numbers of a state event's auth events. */
  readonly authNids?: ReadonlyArray<number>
  /**
   * The transaction before whose events history stands: 0, if absent, for what is before everything. Among each other
   * the numbers decide, which fall below those of all else.
   */
  readonly historyXid?: number
}

/** An event that was known as an outlier and now has its place in the graph, and with it a new number. */
export interface PlacedEvent extends LoggedEvent {
  readonly outlierNid: number
}

export interface MembershipChange {
  readonly userId: UserId
  readonly membership: string
  readonly sender: UserId
  /** The m.room.member event. */
  readonly eventNid: number
  /** The event after which it holds: the m.room.member event, or one that made the rules choose another state. */
  readonly causedBy: number
  /** Whether the user is ours: only their changes are kept in stream order. */
  readonly local: boolean
}

/** What the rooms table says of a room after a commit. */
export interface RoomSummary {
  readonly forwardExtremities: ReadonlyArray<string>
  /** Null where we know of the room only by an invitation. */
  readonly currentState: StateRef | null
  readonly name: string | null
  readonly topic: string | null
  readonly joinedMembers: number
  /** The depth of the event by which this server joined last; 0, if absent, where it made the room. */
  readonly joinedDepth?: number
}

/** Everything that one step of a room changes. */
export interface RoomCommit {
  readonly roomNid: number
  readonly roomId: RoomId
  /** The number under which the writer opened the room. */
  readonly fence: number
  readonly events: ReadonlyArray<LoggedEvent>
  readonly placed?: ReadonlyArray<PlacedEvent>
  readonly chains: ReadonlyArray<NewChain>
  readonly deltas: ReadonlyArray<StateDelta>
  readonly memberships: ReadonlyArray<MembershipChange>
  readonly transactions: ReadonlyArray<ClientTransaction>
  readonly outgoing: ReadonlyArray<{ readonly destination: ServerName; readonly nid: number }>
  /** Events whose stored body is replaced by their redacted form. */
  readonly redactions: ReadonlyArray<Event>
  readonly summary: RoomSummary
}

/** The answer to a PUT with a transaction ID; `scope` is the room, `txnId` begins with the kind of request. */
export interface ClientTransaction {
  readonly tokenId: number
  readonly scope: string
  readonly txnId: string
  /** JSON text. */
  readonly response: string
}

/** An event of the stream. */
export interface StreamedEvent {
  readonly position: StreamPosition
  readonly roomNid: number
  readonly event: Event
}

export interface StreamedMembership {
  readonly position: StreamPosition
  readonly roomNid: number
  readonly roomId: RoomId
  readonly userId: UserId
  readonly membership: string
}

export interface LogSlice {
  readonly events: ReadonlyArray<StreamedEvent>
  readonly memberships: ReadonlyArray<StreamedMembership>
  /** Everything up to here was read. */
  readonly upTo: StreamPosition
}

/** The room was opened by another writer since; the actor must not go on. */
export class StaleWriter extends Schema.TaggedError<StaleWriter>()("StaleWriter", {
  roomId: Schema.String,
  fence: Schema.Number
}) {}

/**
 * The commit failed. `untouched` says that nothing of it was stored for sure; otherwise the connection may have been
 * lost after PostgreSQL had committed, and the writer must look.
 */
export class CommitFailed extends Schema.TaggedError<CommitFailed>()("CommitFailed", {
  roomId: Schema.String,
  fence: Schema.Number,
  untouched: Schema.Boolean,
  cause: Schema.Defect()
}) {}

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
          return Effect.catchCause(commitTogether([item]), (cause) => Effect.sync(() => fail(false, cause)))
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
        lastCommitted: () => lastCommitted
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

const endOfTransactionsBefore = (xid: string): StreamPosition => endOfTransaction(Number(xid) - 1)

/**
 * How far a reader has come who has read up to the edge: the edge lies further back for a moment where a transaction of
 * another database ends, and what was read is not read again.
 */
const upToEdge = (position: StreamPosition, edge: string): StreamPosition => {
  const end = endOfTransactionsBefore(edge)
  return comparePositions(end, position) > 0 ? end : position
}

/**
 * Commits everything in one statement, which is one transaction and one round trip. Rooms whose fence has moved on are
 * left out, with all that belongs to them.
 */
const commitStatement = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  commits: ReadonlyArray<RoomCommit>
): Effect.fn.Return<{ readonly xid: number; readonly fenced: ReadonlyMap<number, number> }, SqlError.SqlError> {
  const rooms = [...new Map(commits.map((commit) => [`${commit.roomNid}/${commit.fence}`, commit])).values()]
  const rows = yield* sql<{ xid: string; room_nid: bigint; fence: bigint }>`
    WITH fenced AS (${updateRooms(sql, rooms)})
    , new_events AS (${insertEvents(sql, commits)})
    ${insertState(sql, commits)} ${insertMemberships(sql, commits)} ${insertTransactions(sql, commits)}
    ${insertOutgoing(sql, commits)} ${updateRedacted(sql, commits)} ${placeOutliers(sql, commits)}
    ${insertAuthEdges(sql, commits)}
    SELECT pg_current_xact_id()::text AS xid, room_nid, fence FROM fenced`
  return {
    xid: Number(rows[0]?.xid ?? 0),
    fenced: new Map(rows.map((row) => [Number(row.room_nid), Number(row.fence)]))
  }
})

const updateRooms = (sql: SqlClient.SqlClient, rooms: ReadonlyArray<RoomCommit>) => sql`
  UPDATE rooms SET
    forward_extremities = given.forward_extremities::text[],
    current_chain = given.chain, current_seq = given.seq,
    name = given.name, topic = given.topic, joined_members = given.joined_members,
    joined_depth = given.joined_depth
  FROM unnest(
    ${bigints(rooms.map((room) => room.roomNid))}::bigint[],
    ${bigints(rooms.map((room) => room.fence))}::bigint[],
    ${texts(rooms.map((room) => textArrayLiteral(room.summary.forwardExtremities)))}::text[],
    ${bigints(rooms.map((room) => room.summary.currentState?.chain ?? null))}::bigint[],
    ${integers(rooms.map((room) => room.summary.currentState?.seq ?? null))}::integer[],
    ${texts(rooms.map((room) => room.summary.name))}::text[],
    ${texts(rooms.map((room) => room.summary.topic))}::text[],
    ${integers(rooms.map((room) => room.summary.joinedMembers))}::integer[],
    ${bigints(rooms.map((room) => room.summary.joinedDepth ?? 0))}::bigint[]
  ) AS given (room_nid, fence, forward_extremities, chain, seq, name, topic, joined_members, joined_depth)
  WHERE rooms.room_nid = given.room_nid AND rooms.fence = given.fence
  RETURNING rooms.room_nid, rooms.fence`

/** The rows of all commits of one kind, with the room and fence that each belongs to. */
const rowsOf = <A>(commits: ReadonlyArray<RoomCommit>, rows: (commit: RoomCommit) => ReadonlyArray<A>) => {
  const flat: Array<A> = []
  const rooms: Array<number> = []
  const fences: Array<number> = []
  for (const commit of commits) {
    for (const row of rows(commit)) {
      flat.push(row)
      rooms.push(commit.roomNid)
      fences.push(commit.fence)
    }
  }
  return { empty: flat.length === 0, rooms: bigints(rooms), fences: bigints(fences), rows: flat }
}

/** The message that feedback is about, or the event that a redaction strips, so that both can be found together. */
const relatesTo = (event: Event): string | null => {
  if (event.redacts !== undefined) return event.redacts
  const target = event.content.target_event_id
  return event.type === "m.room.message.feedback" && isEventId(target) ? target : null
}

/** The bodies of the events; an event that is redacted in the same statement is never there with its content. */
const bodiesOf = (commits: ReadonlyArray<RoomCommit>): ReadonlyArray<string> => {
  const key = ({ fence, roomNid }: RoomCommit, event: Event) => `${roomNid} ${fence} ${event.event_id}`
  const redacted = new Map<string, Event>()
  for (const commit of commits) for (const event of commit.redactions) redacted.set(key(commit, event), event)
  return commits.flatMap((commit) =>
    commit.events.map(({ event }) => JSON.stringify(redacted.get(key(commit, event)) ?? event))
  )
}

const insertEvents = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { fences, rooms, rows } = rowsOf(commits, (commit) => commit.events)
  return sql`
    INSERT INTO events (
      nid, xid, room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, body)
    SELECT
      nid, CASE status WHEN 1 THEN history_xid::xid8 ELSE pg_current_xact_id() END,
      room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, body
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${texts(rows.map((row) => row.event.event_id))}::text[],
      ${texts(rows.map((row) => row.event.type))}::text[],
      ${texts(rows.map((row) => row.event.state_key ?? null))}::text[],
      ${texts(rows.map((row) => row.event.sender))}::text[],
      ${bigints(rows.map((row) => row.event.depth))}::bigint[],
      ${bigints(rows.map((row) => row.stateBefore?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateBefore?.seq ?? null))}::integer[],
      ${bigints(rows.map((row) => row.stateAfter?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateAfter?.seq ?? null))}::integer[],
      ${integers(rows.map((row) => row.status))}::integer[],
      ${texts(rows.map((row) => relatesTo(row.event)))}::text[],
      ${texts(bodiesOf(commits))}::text[],
      ${texts(rows.map((row) => String(row.historyXid ?? 0)))}::text[]
    ) AS given (
      room_nid, fence, nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, body, history_xid)
    JOIN fenced USING (room_nid, fence)`
}

const insertState = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const chains = rowsOf(commits, (commit) => commit.chains)
  const deltas = rowsOf(commits, (commit) => commit.deltas)
  const columns = deltaColumns(deltas.rows)
  const newChains = chains.empty
    ? sql.literal("")
    : sql`, new_chains AS (
        INSERT INTO state_chains (chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq)
        SELECT chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq
        FROM unnest(
          ${chains.rooms}::bigint[], ${chains.fences}::bigint[],
          ${bigints(chains.rows.map((row) => row.chain))}::bigint[],
          ${bigints(chains.rows.map((row) => row.parent?.chain ?? null))}::bigint[],
          ${integers(chains.rows.map((row) => row.parent?.seq ?? null))}::integer[],
          ${integers(chains.rows.map((row) => row.height))}::integer[],
          ${bigints(chains.rows.map((row) => row.equals?.chain ?? null))}::bigint[],
          ${integers(chains.rows.map((row) => row.equals?.seq ?? null))}::integer[]
        ) AS given (room_nid, fence, chain, parent_chain, parent_seq, height, equals_chain, equals_seq)
        JOIN fenced USING (room_nid, fence))`
  const newDeltas = deltas.empty
    ? sql.literal("")
    : sql`, new_deltas AS (
        INSERT INTO state_deltas (chain, type, state_key, seq, event_nid)
        SELECT chain, type, state_key, seq, event_nid
        FROM unnest(
          ${deltas.rooms}::bigint[], ${deltas.fences}::bigint[],
          ${columns.chains}::bigint[], ${columns.types}::text[], ${columns.stateKeys}::text[],
          ${columns.seqs}::integer[], ${columns.eventNids}::bigint[]
        ) AS given (room_nid, fence, chain, type, state_key, seq, event_nid)
        JOIN fenced USING (room_nid, fence))`
  return sql`${newChains} ${newDeltas}`
}

const insertMemberships = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const changes = rowsOf(commits, (commit) => commit.memberships)
  if (changes.empty) return sql.literal("")
  const local = rowsOf(commits, (commit) => commit.memberships.filter((change) => change.local))
  return sql`
    , new_memberships AS (
      INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
      SELECT DISTINCT ON (room_nid, user_id) room_nid, user_id, membership, sender, event_nid
      FROM unnest(
        ${changes.rooms}::bigint[], ${changes.fences}::bigint[],
        ${texts(changes.rows.map((row) => row.userId))}::text[],
        ${texts(changes.rows.map((row) => row.membership))}::text[],
        ${texts(changes.rows.map((row) => row.sender))}::text[],
        ${bigints(changes.rows.map((row) => row.eventNid))}::bigint[]
      ) WITH ORDINALITY AS given (room_nid, fence, user_id, membership, sender, event_nid, place)
      JOIN fenced USING (room_nid, fence)
      ORDER BY room_nid, user_id, place DESC
      ON CONFLICT (room_nid, user_id) DO UPDATE
        SET membership = excluded.membership, sender = excluded.sender, event_nid = excluded.event_nid)
    , new_changes AS (
      INSERT INTO membership_changes (user_id, nid, room_nid, membership)
      SELECT user_id, nid, room_nid, membership
      FROM unnest(
        ${local.rooms}::bigint[], ${local.fences}::bigint[],
        ${texts(local.rows.map((row) => row.userId))}::text[],
        ${bigints(local.rows.map((row) => row.causedBy))}::bigint[],
        ${texts(local.rows.map((row) => row.membership))}::text[]
      ) AS given (room_nid, fence, user_id, nid, membership)
      JOIN fenced USING (room_nid, fence))`
}

const insertAuthEdges = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ events }) =>
    events.flatMap(({ authNids = [], nid }) => authNids.map((authNid) => ({ nid, authNid })))
  )
  if (empty) return sql.literal("")
  return sql`, new_auth_edges AS (
    INSERT INTO event_auth (event_nid, auth_nid)
    SELECT event_nid, auth_nid
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${bigints(rows.map((row) => row.authNid))}::bigint[]
    ) AS given (room_nid, fence, event_nid, auth_nid)
    JOIN fenced USING (room_nid, fence))`
}

const insertTransactions = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.transactions)
  if (empty) return sql.literal("")
  return sql`, new_transactions AS (
    INSERT INTO client_transactions (token_id, scope, txn_id, response, created_at)
    SELECT token_id, scope, txn_id, response, extract(epoch FROM now()) * 1000
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.tokenId))}::bigint[],
      ${texts(rows.map((row) => row.scope))}::text[],
      ${texts(rows.map((row) => row.txnId))}::text[],
      ${texts(rows.map((row) => row.response))}::text[]
    ) AS given (room_nid, fence, token_id, scope, txn_id, response)
    JOIN fenced USING (room_nid, fence))`
}

const insertOutgoing = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.outgoing)
  if (empty) return sql.literal("")
  return sql`, new_outgoing AS (
    INSERT INTO outgoing_pdus (destination, event_nid)
    SELECT destination, event_nid
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${texts(rows.map((row) => row.destination))}::text[],
      ${bigints(rows.map((row) => row.nid))}::bigint[]
    ) AS given (room_nid, fence, destination, event_nid)
    JOIN fenced USING (room_nid, fence))`
}

const updateRedacted = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.redactions)
  if (empty) return sql.literal("")
  return sql`, redacted AS (
    UPDATE events SET body = given.body
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${texts(rows.map((row) => row.event_id))}::text[],
      ${texts(rows.map((row) => JSON.stringify(row)))}::text[]
    ) AS given (room_nid, fence, event_id, body)
    JOIN fenced USING (room_nid, fence)
    WHERE events.event_id = given.event_id AND events.room_nid = given.room_nid)`
}

interface LogRow {
  readonly edge: string
  /** Null in the one row that an empty slice has. */
  readonly xid: string | null
  readonly nid: bigint
  readonly room_nid: bigint
  readonly body: string
  /** Whether the event changed the membership of a user of ours. */
  readonly moves: boolean | null
}

/** An outlier gets its place; whatever names it by its number is told the new one. */
const placeOutliers = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.placed ?? [])
  if (empty) return sql.literal("")
  return sql`, place AS (
    SELECT given.* FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.outlierNid))}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${bigints(rows.map((row) => row.stateBefore?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateBefore?.seq ?? null))}::integer[],
      ${bigints(rows.map((row) => row.stateAfter?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateAfter?.seq ?? null))}::integer[],
      ${integers(rows.map((row) => row.status))}::integer[],
      ${texts(rows.map((row) => String(row.historyXid ?? 0)))}::text[]
    ) AS given (room_nid, fence, old_nid, nid, state_chain, state_seq, after_chain, after_seq, status, history_xid)
    JOIN fenced USING (room_nid, fence))
  , placed_events AS (
    UPDATE events SET
      nid = place.nid, status = place.status,
      xid = CASE place.status WHEN 1 THEN place.history_xid::xid8 ELSE pg_current_xact_id() END,
      state_chain = place.state_chain, state_seq = place.state_seq,
      after_chain = place.after_chain, after_seq = place.after_seq
    FROM place WHERE events.nid = place.old_nid
    RETURNING events.room_nid, events.type, events.state_key, place.old_nid, place.nid)
  , placed_deltas AS (
    UPDATE state_deltas SET event_nid = placed_events.nid
    FROM placed_events JOIN state_chains ON state_chains.room_nid = placed_events.room_nid
    WHERE state_deltas.chain = state_chains.chain AND state_deltas.type = placed_events.type
      AND state_deltas.state_key = placed_events.state_key AND state_deltas.event_nid = placed_events.old_nid)
  , placed_auth_edges AS (
    UPDATE event_auth SET
      event_nid = coalesce(of_event.nid, edge.event_nid), auth_nid = coalesce(of_auth.nid, edge.auth_nid)
    FROM (
      SELECT edge.event_nid, edge.auth_nid FROM placed_events JOIN event_auth edge ON edge.event_nid = placed_events.old_nid
      UNION
      SELECT edge.event_nid, edge.auth_nid FROM placed_events JOIN event_auth edge ON edge.auth_nid = placed_events.old_nid
    ) AS edge
    LEFT JOIN placed_events of_event ON of_event.old_nid = edge.event_nid
    LEFT JOIN placed_events of_auth ON of_auth.old_nid = edge.auth_nid
    WHERE event_auth.event_nid = edge.event_nid AND event_auth.auth_nid = edge.auth_nid)
  , placed_memberships AS (
    UPDATE memberships SET event_nid = placed_events.nid FROM placed_events
    WHERE memberships.room_nid = placed_events.room_nid AND memberships.user_id = placed_events.state_key
      AND memberships.event_nid = placed_events.old_nid)`
}

/** The slice from memory, if nobody else has committed anything in it; otherwise undefined. */
const tellAfter = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  recent: RecentCommits,
  position: StreamPosition,
  limit: number
): Effect.fn.Return<LogSlice | undefined, SqlError.SqlError> {
  const next = recent.next(position)
  if (next !== undefined && next.events.length <= limit) return next
  const xids = recent.after(position)
  if (xids.length === 0) return undefined
  const rows = yield* sql<{ edge: string; others: boolean }>`
    WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge)
    SELECT edge::text AS edge, EXISTS (
      SELECT FROM events
      WHERE status = 0 AND (xid, nid) > (${String(position.xid)}::xid8, ${String(position.nid)}::bigint)
        AND xid < complete.edge AND xid <> ALL (${texts(xids.map(String))}::text[]::xid8[])
    ) AS others
    FROM complete`
  const { edge, others } = rows[0]!
  if (others) return undefined
  const told = recent.tell(new Set(xids.filter((xid) => xid < Number(edge))))
  return told.events.length > limit ? undefined : { ...told, upTo: upToEdge(position, edge) }
})

const readAfter = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, position: StreamPosition, limit: number) {
  const rows = yield* sql<LogRow>`
    WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge)
    SELECT complete.edge::text AS edge, logged.* FROM complete LEFT JOIN LATERAL (
      SELECT xid::text AS xid, nid, room_nid, body, EXISTS (
        SELECT 1 FROM membership_changes change WHERE change.xid = events.xid AND change.nid = events.nid
      ) AS moves
      FROM events
      WHERE status = 0 AND (xid, nid) > (${String(position.xid)}::xid8, ${String(position.nid)}::bigint)
        AND xid < complete.edge
      ORDER BY events.xid, events.nid LIMIT ${limit}
    ) AS logged ON true`
  const events = rows
    .filter((row) => row.xid !== null)
    .map(
      (row): StreamedEvent => ({
        position: { xid: Number(row.xid), nid: Number(row.nid) },
        roomNid: Number(row.room_nid),
        event: JSON.parse(row.body) as Event
      })
    )
  const upTo = events.length === limit ? events[limit - 1]!.position : upToEdge(position, rows[0]!.edge)
  const memberships = rows.some((row) => row.moves) ? yield* readMemberships(sql, position, upTo) : []
  return { events, memberships, upTo } satisfies LogSlice
})

const readMemberships = (sql: SqlClient.SqlClient, after: StreamPosition, upTo: StreamPosition) =>
  sql<MembershipRow>`
    SELECT xid::text AS xid, nid, room_nid, room_id, user_id, membership
    FROM membership_changes JOIN rooms USING (room_nid)
    WHERE (xid, nid) > (${String(after.xid)}::xid8, ${String(after.nid)}::bigint)
      AND (xid, nid) <= (${String(upTo.xid)}::xid8, ${String(upTo.nid)}::bigint)
    ORDER BY membership_changes.xid, membership_changes.nid`.pipe(Effect.map((rows) => rows.map(toStreamedMembership)))

export interface MembershipRow {
  readonly xid: string
  readonly nid: bigint
  readonly room_nid: bigint
  readonly room_id: string
  readonly user_id: string
  readonly membership: string
}

export const toStreamedMembership = (row: MembershipRow): StreamedMembership => ({
  position: { xid: Number(row.xid), nid: Number(row.nid) },
  roomNid: Number(row.room_nid),
  roomId: row.room_id as RoomId,
  userId: row.user_id as UserId,
  membership: row.membership
})
