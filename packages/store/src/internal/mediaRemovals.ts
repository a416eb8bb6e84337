/**
 * The removal of media: of uploads and of content of other servers, by use, age and quota, and of files that no row names any more.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"

export const makeMediaRemovals = (sql: SqlClient.SqlClient) => {
  /** Deletes rows of `media` that a query selects by `ctid`, and returns their size to the quotas of the users. */
  const removeRows = (named: Statement.Fragment) =>
    Effect.map(
      sql<{ count: number }>`
        WITH removed AS (
          DELETE FROM media WHERE ctid = ANY(ARRAY(${named})) RETURNING user_id, size
        ), credited AS (
          UPDATE media_usage SET bytes = greatest(0, bytes - freed), files = greatest(0, files - removed_files)
          FROM (
            SELECT user_id, sum(size) AS freed, count(*) AS removed_files FROM removed WHERE size IS NOT NULL GROUP BY user_id
          ) AS sums
          WHERE media_usage.user_id = sums.user_id
        )
        SELECT count(*)::integer AS count FROM removed`,
      (rows) => rows[0]?.count ?? 0
    ).pipe(Effect.orDie)

  const trimRemote = Effect.fnUntraced(function* (
    quota: { readonly bytes: number; readonly files: number },
    limit: number
  ) {
    const rows = yield* sql<{ bytes: bigint; files: bigint }>`
      SELECT coalesce(sum(size), 0)::bigint AS bytes, count(*) AS files FROM media
      WHERE user_id IS NULL AND quarantined_by IS NULL AND sha256 IS NOT NULL`
    const surplusBytes = Number(rows[0]?.bytes ?? 0) - quota.bytes
    const surplusFiles = Number(rows[0]?.files ?? 0) - quota.files
    if (surplusBytes <= 0 && surplusFiles <= 0) return 0
    return yield* removeRows(sql`
      SELECT ctid FROM (
        SELECT ctid, sum(size) OVER oldest_first - size AS freed, row_number() OVER oldest_first AS place FROM media
        WHERE user_id IS NULL AND quarantined_by IS NULL AND sha256 IS NOT NULL
        WINDOW oldest_first AS (ORDER BY last_used_at, origin, media_id)
      ) AS oldest WHERE freed < ${surplusBytes} OR place <= ${surplusFiles} ORDER BY place LIMIT ${limit}`)
  }, Effect.orDie)

  const trimThumbnails = Effect.fnUntraced(function* (maxBytes: number, limit: number) {
    const rows = yield* sql<{ bytes: bigint }>`
      SELECT coalesce(sum(size), 0)::bigint AS bytes FROM media_thumbnails`
    const surplus = Number(rows[0]?.bytes ?? 0) - maxBytes
    if (surplus <= 0) return 0
    const removed = yield* sql`
      DELETE FROM media_thumbnails WHERE ctid = ANY(ARRAY(
        SELECT made_at FROM (
          SELECT made.ctid AS made_at, sum(made.size) OVER oldest_first - made.size AS freed
          FROM media_thumbnails AS made JOIN media_blobs AS blob USING (sha256)
          WINDOW oldest_first AS (ORDER BY blob.touched_at, made.source, made.variant)
        ) AS oldest WHERE freed < ${surplus} ORDER BY freed LIMIT ${limit}))
      RETURNING 1`
    return removed.length
  }, Effect.orDie)

  const removeUnused = (before: number, limit: number, removeFile: (sha256: Uint8Array) => Effect.Effect<void>) =>
    Effect.gen(function* () {
      const rows = yield* sql<{ sha256: Uint8Array }>`
        SELECT sha256 FROM media_blobs AS blob
        WHERE touched_at < ${before}
          AND NOT EXISTS (SELECT 1 FROM media WHERE media.sha256 = blob.sha256)
          AND NOT EXISTS (SELECT 1 FROM media_thumbnails AS made WHERE made.sha256 = blob.sha256)
        LIMIT ${limit} FOR UPDATE OF blob SKIP LOCKED`
      for (const { sha256 } of rows) {
        yield* removeFile(sha256)
        yield* sql`DELETE FROM media_blobs WHERE sha256 = ${sha256}`
      }
      return rows.length
    }).pipe(sql.withTransaction, Effect.orDie)

  return {
    remove: ({ mediaId, origin }: { readonly origin: ServerName; readonly mediaId: string }) =>
      Effect.map(
        removeRows(sql`SELECT ctid FROM media WHERE origin = ${origin} AND media_id = ${mediaId}`),
        (removed) => removed > 0
      ),
    removeUploads: (userId: UserId, limit: number) =>
      removeRows(sql`SELECT ctid FROM media WHERE user_id = ${userId} LIMIT ${limit}`),
    removeExpired: (now: number, limit: number) =>
      removeRows(sql`
        SELECT ctid FROM media WHERE sha256 IS NULL AND expires_at <= ${now} AND quarantined_by IS NULL LIMIT ${limit}`),
    removeLocal: (origin: ServerName, before: number, limit: number) =>
      removeRows(sql`
        SELECT ctid FROM media WHERE origin = ${origin} AND sha256 IS NOT NULL AND last_used_at < ${before}
          AND quarantined_by IS NULL AND NOT protected LIMIT ${limit}`),
    removeLarge: (origin: ServerName, before: number, size: number, limit: number) =>
      removeRows(sql`
        SELECT ctid FROM media WHERE origin = ${origin} AND sha256 IS NOT NULL AND last_used_at < ${before}
          AND size >= ${size} AND quarantined_by IS NULL AND NOT protected AND NOT EXISTS (
            SELECT 1 FROM profile_fields WHERE profile_fields.user_id = media.user_id AND field = 'avatar_url'
              AND value = '"mxc://' || origin || '/' || media_id || '"')
        LIMIT ${limit}`),
    removeRemote: (before: number, limit: number) =>
      removeRows(sql`
        SELECT ctid FROM media WHERE user_id IS NULL AND sha256 IS NOT NULL AND last_used_at < ${before}
          AND quarantined_by IS NULL LIMIT ${limit}`),
    trimRemote,
    trimThumbnails,
    removeUnused
  }
}
