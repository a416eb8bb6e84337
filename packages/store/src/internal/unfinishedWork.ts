/**
 * Work of users in rooms that is tried again until it is done, or a week old. A kind of work is a table with the key
 * `(room_id, user_id)`, the columns `since`, `attempts` and `retry_at`, and columns that describe the work.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Effect } from "effect"
import type { SqlClient } from "effect/sql"
import type { Fragment } from "effect/sql/Statement"
import type { EventLog } from "../EventLog.ts"
import { rowsOfSignal, type SentSignal, signalWork, type WorkKind } from "../WorkSignals.ts"
import { asynchronousCommit } from "./asynchronousCommit.ts"
import { dueAt } from "./dueAt.ts"

/** The key of a piece of work. */
interface UserInRoom {
  readonly roomId: RoomId
  readonly userId: UserId
}

/** The table of a kind of work. An error of the database is a defect. */
export interface UnfinishedWork<A extends UserInRoom> {
  /**
   * Stores work in place of the former one of this user and room, and signals it. If it is the same as the former one, that one keeps its
   * age and its attempts.
   */
  readonly put: (work: A) => Effect.Effect<void>
  /** The work is done, or given up. A crash of the database may bring it back, where nothing was committed since. */
  readonly remove: (roomId: RoomId, userId: UserId) => Effect.Effect<void>
  readonly find: (roomId: RoomId, userId: UserId) => Effect.Effect<A | undefined>
  /**
   * The work that is due for another attempt, or all of it; what is older than a week is forgotten. Each is due again after a wait as long
   * as it has waited so far, 6 hours at most, unless it is removed. What is of a time to come, or due in more than 6 hours, is due: the clock
   * was set back.
   */
  readonly take: (which: "due" | "all") => Effect.Effect<ReadonlyArray<A>>
  /** When the next one is due, in milliseconds since 1970. */
  readonly nextAt: Effect.Effect<number | undefined>
}

const keptFor = 7 * 24 * 3_600_000
const longestWait = 6 * 3_600_000

export const makeUnfinishedWork = <A extends UserInRoom, Row extends object>(
  sql: SqlClient.SqlClient,
  log: EventLog["Service"],
  options: {
    readonly kind: WorkKind
    readonly table: string
    /** The columns that describe the work, with the value of each in SQL. */
    readonly columns: { readonly [name: string]: (work: A) => Fragment }
    readonly read: (row: Row) => Omit<A, keyof UserInRoom>
    /** How long the first repeat waits, in ms. */
    readonly firstWait: (work: A) => number
    /** SQL: whether a row is tried again. Others stay until they are removed. */
    readonly isRepeated?: Fragment
  }
): UnfinishedWork<A> => {
  const { firstWait, isRepeated = sql`true`, kind } = options
  const table = sql(options.table)
  const names = Object.keys(options.columns)
  const columns = sql.csv(names)
  const columnsOf = (row: string) => sql.csv(names.map((name) => `${row}.${name}`))

  type Found = Row & { readonly room_id: string; readonly user_id: string }
  const read = (row: Found): A => ({ roomId: row.room_id, userId: row.user_id, ...options.read(row) }) as unknown as A

  return {
    put: Effect.fnUntraced(
      function* (work) {
        const now = yield* Clock.currentTimeMillis
        const values = sql.csv(Object.values(options.columns).map((valueOf) => valueOf(work)))
        const stored = sql`
          INSERT INTO ${table} AS before (room_id, user_id, ${columns}, since, retry_at)
          VALUES (${work.roomId}, ${work.userId}, ${values}, ${now}, ${now + firstWait(work)})
          ON CONFLICT (room_id, user_id) DO UPDATE SET
            (${columns}, since, attempts, retry_at) = ROW (${columnsOf("excluded")}, excluded.since, 0, excluded.retry_at)
          WHERE (${columnsOf("before")}) IS DISTINCT FROM (${columnsOf("excluded")})
          RETURNING 1`
        const [signal] = yield* sql<SentSignal>`
          WITH setting AS MATERIALIZED (SELECT set_config('greenroom.wakes_others', ${log.wakesOthers() ? "on" : "off"}, true)),
          stored AS (${stored}) ${signalWork(sql, kind, sql`FROM setting WHERE EXISTS (SELECT FROM stored)`)}
          RETURNING xid::text AS xid, nid`
        if (signal !== undefined) log.committed(Number(signal.xid), rowsOfSignal(kind, signal))
      },
      Effect.onError(() => Effect.sync(() => log.committed(undefined))),
      Effect.orDie
    ),

    remove: (roomId, userId) =>
      sql<{ xid: string }>`
          WITH ${asynchronousCommit(sql)}
          DELETE FROM ${table} USING asynchronous_commit WHERE room_id = ${roomId} AND user_id = ${userId}
          RETURNING log_xid()::text AS xid`.pipe(
        Effect.map(([row]) => (row === undefined ? undefined : log.wroteNothing(Number(row.xid)))),
        Effect.orDie
      ),

    find: (roomId, userId) =>
      sql<Found>`SELECT * FROM ${table} WHERE room_id = ${roomId} AND user_id = ${userId}`.pipe(
        Effect.map(([row]) => (row === undefined ? undefined : read(row))),
        Effect.orDie
      ),

    take: Effect.fnUntraced(function* (which) {
      const now = yield* Clock.currentTimeMillis
      yield* sql`DELETE FROM ${table} WHERE since < ${now - keptFor} AND ${isRepeated}`
      const rows = yield* sql<Found>`
        UPDATE ${table} SET attempts = attempts + 1, since = least(since, ${now}),
          retry_at = ${now}::bigint + least(${longestWait}::bigint, greatest(${now}::bigint, ${dueAt(sql, now, longestWait)}) - since)
        WHERE ${isRepeated} AND (${which === "all"} OR ${dueAt(sql, now, longestWait)} <= ${now} OR since > ${now})
        RETURNING *`
      return rows.map(read)
    }, Effect.orDie),

    nextAt: Clock.currentTimeMillis.pipe(
      Effect.flatMap(
        (now) =>
          sql<{
            at: bigint | null
          }>`SELECT min(${dueAt(sql, now, longestWait)}) AS at FROM ${table} WHERE ${isRepeated}`
      ),
      Effect.map(([row]) => (row?.at == null ? undefined : Number(row.at))),
      Effect.orDie
    )
  }
}
