/**
 * Deletes rows of notifications (`push_actions`, `mentions`): old ones that are read or of rooms that the user is not in, and very old
 * ones. Rows of many members together (`room_push_actions`) are deleted when they are very old. Marks record the age of rows,
 * which have no time.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

export interface Pruning {
  /** Rows from before this time are deleted if they are read. */
  readonly readBefore: number
  /** Rows from before this time are deleted in any case. */
  readonly allBefore: number
  /** The most rows that one statement examines. */
  readonly batch: number
}

const tables = ["push_actions", "mentions"] as const

export class PushPruningStore extends Context.Service<
  PushPruningStore,
  {
    /** Stores a mark: the newest row at this time. */
    readonly mark: (now: number) => Effect.Effect<void>
    /** Removes old rows in batches. Returns their number. */
    readonly prune: (pruning: Pruning) => Effect.Effect<number>
  }
>()("greenroom/store/PushPruningStore") {
  static readonly layer = Layer.effect(
    PushPruningStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      /** The number up to which rows are older than a time. */
      const nidAt = (time: number) =>
        Effect.map(sql<{ nid: bigint | null }>`SELECT max(nid) AS nid FROM push_marks WHERE at <= ${time}`, ([row]) =>
          Number(row?.nid ?? 0)
        )

      const pruneTable = Effect.fnUntraced(function* (
        table: (typeof tables)[number],
        { all, batch, read }: { readonly all: number; readonly batch: number; readonly read: number }
      ) {
        const rows = sql.literal(table)
        let after = 0
        let removed = 0
        for (;;) {
          const [page] = yield* sql<{ last: bigint | null; removed: number }>`
            WITH page AS MATERIALIZED (
              SELECT user_id, room_nid, xid, nid, thread_id FROM ${rows}
              WHERE nid > ${after} AND nid <= ${read} ORDER BY nid LIMIT ${batch}
            ), removed AS (
              DELETE FROM ${rows} AS old USING page
              WHERE (old.user_id, old.room_nid, old.xid, old.nid) = (page.user_id, page.room_nid, page.xid, page.nid)
                AND (page.nid <= ${all} OR EXISTS (
                  SELECT FROM receipts
                  WHERE receipts.room_nid = page.room_nid AND receipts.user_id = page.user_id
                    AND receipts.thread_id IN ('', coalesce(page.thread_id, 'main'))
                    AND (receipts.event_xid, receipts.event_nid) >= (page.xid, page.nid)
                ) OR NOT EXISTS (
                  SELECT FROM memberships
                  WHERE memberships.room_nid = page.room_nid AND memberships.user_id = page.user_id
                    AND memberships.membership = 'join'))
              RETURNING 1)
            SELECT (SELECT max(nid) FROM page) AS last, (SELECT count(*) FROM removed)::integer AS removed`
          if (page?.last == null) return removed
          removed += page.removed
          after = Number(page.last)
        }
      })

      const pruneShared = Effect.fnUntraced(function* (all: number, batch: number) {
        for (let removed = 0; ; ) {
          const rows = yield* sql`
            DELETE FROM room_push_actions WHERE nid IN (
              SELECT nid FROM room_push_actions WHERE nid <= ${all} ORDER BY nid LIMIT ${batch})
            RETURNING 1`
          removed += rows.length
          if (rows.length < batch) return removed
        }
      })

      const prune = Effect.fnUntraced(function* ({ allBefore, batch, readBefore }: Pruning) {
        const bounds = { read: yield* nidAt(readBefore), all: yield* nidAt(allBefore), batch }
        const counts = yield* Effect.forEach(tables, (table) => pruneTable(table, bounds))
        counts.push(yield* pruneShared(bounds.all, batch))
        // The newest mark of before `allBefore` is still needed.
        yield* sql`DELETE FROM push_marks WHERE at < (SELECT max(at) FROM push_marks WHERE at <= ${allBefore})`
        return counts.reduce((sum, count) => sum + count, 0)
      })

      return PushPruningStore.of({
        mark: (now) =>
          sql`
            INSERT INTO push_marks (at, nid)
            SELECT ${now}::bigint, greatest(
              (SELECT max(nid) FROM push_actions), (SELECT max(nid) FROM room_push_actions),
              (SELECT max(nid) FROM mentions), 0)
            ON CONFLICT (at) DO NOTHING`.pipe(Effect.asVoid, Effect.orDie),
        prune: (pruning) => Effect.orDie(prune(pruning))
      })
    })
  )
}
