/**
 * Rendezvous sessions of two devices: a short text that either of them replaces. Times are milliseconds since 1970.
 *
 * Used by `Rendezvous` alone. An error of the database is a defect.
 */
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { counted } from "./internal/counted.ts"

export interface RendezvousSession {
  readonly data: string
  /** Grows with each change. */
  readonly sequence: number
  readonly expiresAt: number
}

export class RendezvousStore extends Context.Service<
  RendezvousStore,
  {
    /** False if there are `limit` sessions already. Deletes expired ones. */
    readonly create: (id: string, data: string, expiresAt: number, limit: number) => Effect.Effect<boolean>
    readonly find: (id: string) => Effect.Effect<Option.Option<RendezvousSession>>
    /** Replaces the text if its sequence is still this one. Undefined if it is not, or there is no such session. */
    readonly replace: (id: string, data: string, sequence: number) => Effect.Effect<Option.Option<number>>
    /** False if there was none. */
    readonly remove: (id: string) => Effect.Effect<boolean>
  }
>()("greenroom/store/RendezvousStore") {
  static readonly layer = Layer.effect(
    RendezvousStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      RendezvousStore.of({
        create: (id, data, expiresAt, limit) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            counted(sql)("rendezvous")(sql`
              WITH expired AS (DELETE FROM rendezvous WHERE expires_at <= ${now})
              INSERT INTO rendezvous (id, data, expires_at) SELECT ${id}, ${data}, ${expiresAt}
              WHERE (SELECT count(*) FROM rendezvous WHERE expires_at > ${now} AND expires_at <= ${expiresAt}) < ${limit} RETURNING 1`).pipe(
              Effect.map((rows) => rows.length > 0),
              Effect.orDie
            )
          ),
        find: (id) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            sql<{ data: string; sequence: bigint; expires_at: bigint }>`
              SELECT data, sequence, expires_at FROM rendezvous WHERE id = ${id} AND expires_at > ${now}`.pipe(
              Effect.map((rows) =>
                Option.map(Option.fromNullishOr(rows[0]), ({ data, expires_at, sequence }) => ({
                  data,
                  sequence: Number(sequence),
                  expiresAt: Number(expires_at)
                }))
              ),
              Effect.orDie
            )
          ),
        replace: (id, data, sequence) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            sql<{ sequence: bigint }>`
              UPDATE rendezvous SET data = ${data}, sequence = sequence + 1
              WHERE id = ${id} AND sequence = ${sequence} AND expires_at > ${now} RETURNING sequence`.pipe(
              Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), ({ sequence }) => Number(sequence))),
              Effect.orDie
            )
          ),
        remove: (id) =>
          sql`DELETE FROM rendezvous WHERE id = ${id} RETURNING 1`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          )
      })
    )
  )
}
