/**
 * Files in chunks, by the SHA-256 of the file. The first chunk is written last: a file is complete or absent. Used by
 * `media/DatabaseFiles` alone.
 *
 * An error of the database is a defect.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

export class MediaChunkStore extends Context.Service<
  MediaChunkStore,
  {
    /** The position of the last chunk of a file; undefined if the file is not complete. */
    readonly last: (sha256: Uint8Array) => Effect.Effect<number | undefined>
    readonly read: (sha256: Uint8Array, position: number) => Effect.Effect<Uint8Array | undefined>
    /** Writes a chunk in a transaction of its own, so that no transaction is as long as an upload. */
    readonly write: (sha256: Uint8Array, position: number, bytes: Uint8Array) => Effect.Effect<void>
    readonly remove: (sha256: Uint8Array) => Effect.Effect<void>
  }
>()("greenroom/store/MediaChunkStore") {
  static readonly layer = Layer.effect(
    MediaChunkStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      MediaChunkStore.of({
        last: (sha256) =>
          sql<{ last: number }>`
            SELECT max(position) AS last FROM media_chunks WHERE sha256 = ${sha256} HAVING bool_or(position = 0)`.pipe(
            Effect.map(([row]) => row?.last),
            Effect.orDie
          ),
        read: (sha256, position) =>
          sql<{ bytes: Uint8Array }>`
            SELECT bytes FROM media_chunks WHERE sha256 = ${sha256} AND position = ${position}`.pipe(
            Effect.map(([row]) => row?.bytes),
            Effect.orDie
          ),
        write: (sha256, position, bytes) =>
          sql`
            INSERT INTO media_chunks (sha256, position, bytes) VALUES (${sha256}, ${position}, ${bytes})
            ON CONFLICT DO NOTHING`.pipe(Effect.asVoid, Effect.orDie),
        remove: (sha256) => sql`DELETE FROM media_chunks WHERE sha256 = ${sha256}`.pipe(Effect.asVoid, Effect.orDie)
      })
    )
  )
}
