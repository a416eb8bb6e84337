/**
 * Short-lived values, such as presence and typing: the last value of each key, as rows of the log. Writes of many callers
 * share one statement. After a crash of PostgreSQL, and when the first node starts, everything is gone and an epoch that is
 * `fresh` says so.
 *
 * An error of the database is a defect.
 */
import { Context, Deferred, Effect, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { inBatches } from "./internal/inBatches.ts"
import { type LogRow, ofKind, rowsOf as rowsOfKind } from "./LogKind.ts"
import type { LogSlice } from "./LogSlice.ts"
import { texts } from "./PgArrays.ts"
import { type ShortLivedRow, shortLivedRows } from "./ShortLivedRow.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** A value that was written. */
export interface ShortLivedValue {
  readonly position: StreamPosition
  readonly key: string
  /** JSON; null for a key that has no value any more. */
  readonly value: unknown
}

interface Pending {
  readonly entries: ReadonlyMap<string, unknown>
  readonly done: Deferred.Deferred<void>
}

/** How many writes go together at most. */
const maxBatch = 1_000

export class ShortLivedStore extends Context.Service<
  ShortLivedStore,
  {
    /** Writes values by their keys. Returns when the followers of this node have them. */
    readonly put: (entries: ReadonlyMap<string, unknown>) => Effect.Effect<void>
    /** The values in a slice of the log. */
    readonly valuesOf: (slice: LogSlice) => ReadonlyArray<ShortLivedValue>
    /** Everything, in the order of the positions. */
    readonly all: Effect.Effect<ReadonlyArray<ShortLivedValue>>
    /** The values whose keys begin with `prefix`, in the order of the positions. */
    readonly withPrefix: (prefix: string) => Effect.Effect<ReadonlyArray<ShortLivedValue>>
    /**
     * Removes the values whose keys begin with `prefix` and whose `at` is before a time, in ms since 1970. Followers may miss them. True
     * if newer ones stay.
     */
    readonly removeBefore: (prefix: string, time: number) => Effect.Effect<boolean>
  }
>()("greenroom/store/ShortLivedStore") {
  static readonly layer = Layer.effect(
    ShortLivedStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog
      const pending = yield* Queue.unbounded<Pending>()

      const write = Effect.fnUntraced(
        function* (entries: ReadonlyMap<string, unknown>) {
          // In one order everywhere, so that two nodes never wait for each other.
          const keys = [...entries.keys()].sort()
          const values = keys.map((key) => JSON.stringify(entries.get(key)))
          const valueOf = new Map(keys.map((key, index) => [key, values[index]!]))
          const written = yield* sql<{ xid: string; nid: bigint; key: string }>`
          WITH setting AS MATERIALIZED (SELECT set_config('greenroom.wakes_others', ${log.wakesOthers() ? "on" : "off"}, true))
          INSERT INTO short_lived (key, value, xid)
          SELECT key, value, (SELECT log_xid()) FROM setting, unnest(
            ${texts(keys)}::text[], ${texts(values)}::text[]
          ) AS given (key, value)
          ON CONFLICT (key) DO UPDATE SET value = excluded.value, xid = excluded.xid, nid = excluded.nid
          RETURNING xid::text AS xid, nid, key`
          const rows = written.map(
            ({ key, nid, xid }): LogRow<ShortLivedRow> => ({
              position: { xid: Number(xid), nid: Number(nid) },
              row: { key, value: JSON.parse(valueOf.get(key)!) as unknown }
            })
          )
          if (rows.length > 0) log.committed(rows[0]!.position.xid, ofKind(shortLivedRows, rows))
        },
        Effect.onError(() => Effect.sync(() => log.committed(undefined))),
        Effect.orDie
      )

      const writeTogether = (batch: ReadonlyArray<Pending>) =>
        write(new Map(batch.flatMap(({ entries }) => [...entries]))).pipe(
          Effect.exit,
          Effect.flatMap((exit) => Effect.forEach(batch, ({ done }) => Deferred.done(done, exit), { discard: true }))
        )

      yield* inBatches(pending, maxBatch, writeTogether)

      const read = (prefix: string) =>
        sql<{ key: string; value: string; xid: string; nid: bigint }>`
          SELECT key, value, xid::text AS xid, nid FROM short_lived WHERE starts_with(key, ${prefix})
          ORDER BY short_lived.xid, short_lived.nid`.pipe(
          Effect.map((rows) =>
            rows.map(({ key, nid, value, xid }) => ({
              position: { xid: Number(xid), nid: Number(nid) },
              key,
              value: JSON.parse(value) as unknown
            }))
          ),
          Effect.orDie
        )

      const isBefore = (prefix: string, time: number) =>
        sql`(starts_with(key, ${prefix}) AND coalesce((value::json ->> 'at')::bigint, 0) < ${time})`

      const removeBefore = (prefix: string, time: number) =>
        sql<{ others: boolean }>`
          WITH removed AS (DELETE FROM short_lived WHERE ${isBefore(prefix, time)})
          SELECT EXISTS (
            SELECT FROM short_lived WHERE starts_with(key, ${prefix}) AND NOT ${isBefore(prefix, time)}) AS others`.pipe(
          Effect.map(([row]) => row?.others === true),
          Effect.orDie
        )

      return ShortLivedStore.of({
        put: (entries) => {
          const done = Deferred.makeUnsafe<void>()
          Queue.offerUnsafe(pending, { entries, done })
          return Effect.andThen(Deferred.await(done), log.settled)
        },
        valuesOf: (slice) =>
          rowsOfKind(slice.rows, shortLivedRows).map(({ position, row }) => ({
            position,
            ...row
          })),
        all: read(""),
        withPrefix: read,
        removeBefore
      })
    })
  )
}
