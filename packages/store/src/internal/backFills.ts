/**
 * Work of migrations on existing rows, in batches: each batch is a short transaction of its own, and interrupted work
 * continues at the next start.
 */
import type { Event } from "@greenroom/protocol/Event"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import { bigints, texts } from "../PgArrays.ts"

const batchSize = 2_000

/** Gives state events from before `event_auth` their rows. */
export const backFillEventAuth = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError.SqlError> => {
  const batch = Effect.gen(function* () {
    const [progress] = yield* sql<{ after_nid: bigint }>`
      SELECT after_nid FROM back_fills WHERE name = 'event_auth' FOR UPDATE`
    if (progress === undefined) return true
    const rows = yield* sql<{ nid: bigint; body: string }>`
      SELECT nid, body FROM events WHERE nid > ${progress.after_nid} AND state_key IS NOT NULL
      ORDER BY nid LIMIT ${batchSize}`
    const last = rows.at(-1)
    if (last === undefined) {
      yield* sql`DELETE FROM back_fills WHERE name = 'event_auth'`
      return true
    }
    const edges = rows.flatMap(({ body, nid }) =>
      (JSON.parse(body) as Event).auth_events.map((authEvent) => ({ nid: Number(nid), authEvent }))
    )
    yield* sql`
      INSERT INTO event_auth (event_nid, auth_nid)
      SELECT given.nid, events.nid
      FROM unnest(
        ${bigints(edges.map(({ nid }) => nid))}::bigint[], ${texts(edges.map(({ authEvent }) => authEvent))}::text[]
      ) AS given (nid, event_id)
      JOIN events USING (event_id)
      ON CONFLICT DO NOTHING`
    yield* sql`UPDATE back_fills SET after_nid = ${last.nid} WHERE name = 'event_auth'`
    return false
  })
  return Effect.asVoid(Effect.repeat(sql.withTransaction(batch), { until: (done) => done }))
}
