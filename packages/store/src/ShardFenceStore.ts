/**
 * Fences of the shards of actors. The node that takes a shard raises its number; whatever the actors of the shard write or
 * send is bound to that number, so that a node which was stopped or cut off, and whose shards others have taken, can
 * write nothing. Rooms and application services have fences of their own.
 *
 * Work that belongs to no actor has a lease (`WriteLease`). The node that takes a shard from one that did not give it back ends
 * the database connections of that one, so that nothing which was under way there is written later.
 *
 * A process that holds the database alone has no fences (`undefined`): `DatabaseHold` ends the connections of another one.
 */
import { Context, Data, Effect, Layer } from "effect"
import { SqlClient, type SqlError, type Statement } from "effect/sql"
import { integers } from "./PgArrays.ts"

/** The number under which a node holds a shard. */
export interface Fence {
  readonly shard: number
  readonly number: number
}

/** Another node has taken the shard. */
export class StaleFence extends Data.TaggedError("StaleFence")<{ readonly fence: Fence }> {
  override get message(): string {
    return `another node has taken shard ${this.fence.shard} since fence ${this.fence.number}`
  }
}

/**
 * A condition of SQL: the fence is in force. The node that raises it waits for the statement, and so sees what it has written.
 */
export const stands = (sql: SqlClient.SqlClient, fence: Fence | undefined): Statement.Fragment =>
  fence === undefined
    ? sql`true`
    : sql`EXISTS (SELECT FROM shard_fences WHERE shard = ${fence.shard} AND fence = ${fence.number} FOR SHARE)`

export class ShardFenceStore extends Context.Service<
  ShardFenceStore,
  {
    /**
     * Takes shards: gives the new numbers. All writers under older ones are refused from now on, and the connections of nodes
     * that held one of the shards and did not give it back are ended.
     */
    readonly raise: (shards: ReadonlyArray<number>) => Effect.Effect<ReadonlyMap<number, number>, SqlError.SqlError>
    /** Gives back shards that this node holds: the next holder does not treat this node as lost. */
    readonly release: (shards: ReadonlyArray<number>) => Effect.Effect<void, SqlError.SqlError>
    /** Fails if the fence is no longer in force. An error of the database is a defect. */
    readonly check: (fence: Fence | undefined) => Effect.Effect<void, StaleFence>
    /** Writes in one transaction with the check. For rare writes: it takes four round trips. */
    readonly under: <A, E, R>(
      fence: Fence | undefined,
      write: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E | StaleFence, R>
  }
>()("greenroom/store/ShardFenceStore") {
  static readonly layer = Layer.effect(
    ShardFenceStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      /** Also frees the locks of a lost node, which raising the fence would wait for. */
      const endConnectionsOfHolders = (shards: ReturnType<typeof integers>) =>
        sql`
          SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
          WHERE datname = current_database() AND usename = current_user
            AND application_name IN (
              SELECT holder FROM shard_fences
              WHERE shard = ANY (${shards}::integer[]) AND holder <> current_setting('application_name'))`

      const raise = (shards: ReadonlyArray<number>) => {
        const sorted = integers(shards.toSorted((a, b) => a - b))
        return endConnectionsOfHolders(sorted).pipe(
          Effect.andThen(sql<{ shard: number; fence: bigint }>`
            INSERT INTO shard_fences (shard, fence, holder)
            SELECT shard, 1, current_setting('application_name') FROM unnest(${sorted}::integer[]) AS shard
            ON CONFLICT (shard) DO UPDATE SET fence = shard_fences.fence + 1, holder = excluded.holder
            RETURNING shard, fence`),
          Effect.map((rows) => new Map(rows.map(({ fence, shard }) => [shard, Number(fence)])))
        )
      }

      const release = (shards: ReadonlyArray<number>) =>
        Effect.asVoid(sql`
          UPDATE shard_fences SET holder = NULL FROM (
            SELECT shard FROM shard_fences
            WHERE shard = ANY (${integers(shards)}::integer[]) AND holder = current_setting('application_name')
            ORDER BY shard FOR UPDATE) AS held
          WHERE shard_fences.shard = held.shard`)

      const check = Effect.fnUntraced(function* (fence: Fence | undefined) {
        if (fence === undefined) return
        const rows = yield* Effect.orDie(sql`SELECT WHERE ${stands(sql, fence)}`)
        if (rows.length === 0) return yield* new StaleFence({ fence })
      })

      const under = <A, E, R>(fence: Fence | undefined, write: Effect.Effect<A, E, R>) =>
        fence === undefined
          ? write
          : Effect.catchTag(
              sql.withTransaction(Effect.andThen(check(fence), write)) as Effect.Effect<
                A,
                E | StaleFence | SqlError.SqlError,
                R
              >,
              "SqlError",
              Effect.die
            )

      return ShardFenceStore.of({ raise, release, check, under } as ShardFenceStore["Service"])
    })
  )
}
