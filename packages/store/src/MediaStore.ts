/**
 * The tables of the content repository: which content IDs there are, the content each has, and how much every user
 * has uploaded.
 *
 * Content is stored once for each hash. The order of writing is `touch` (the blob's row), then the file, then `add` or
 * `complete` (the row of a content ID). `removeUnused` removes files whose blob no row names; it leaves those alone that
 * were touched within `grace`, so a file that is being stored is not removed. A crash in between leaves a blob that no
 * row names.
 *
 * An error of the database is a defect. Times are milliseconds since 1970, sizes bytes.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"

/** The name of a file in the content repository, as in `mxc://origin/mediaId`. */
export interface MediaName {
  readonly origin: ServerName
  readonly mediaId: string
}

/** Content, as it was stored. */
export interface StoredContent {
  readonly sha256: Uint8Array
  readonly size: number
  /** What the uploader says that it is. */
  readonly contentType: string | undefined
  /** What its first bytes say that it is. */
  readonly detectedType: string | undefined
  readonly fileName: string | undefined
}

/** A content ID with what is known of it. */
export interface MediaRow extends MediaName {
  /** Absent for the content of other servers. */
  readonly userId: UserId | undefined
  /** Absent while the upload has not arrived. */
  readonly content: StoredContent | undefined
  readonly authenticated: boolean
  readonly createdAt: number
  readonly expiresAt: number | undefined
  readonly lastUsedAt: number
  readonly quarantinedBy: string | undefined
}

/** A thumbnail that was made. */
export interface ThumbnailRow {
  readonly sha256: Uint8Array
  readonly size: number
  readonly contentType: string
}

interface Row {
  readonly origin: ServerName
  readonly media_id: string
  readonly user_id: UserId | null
  readonly sha256: Uint8Array | null
  readonly size: bigint | null
  readonly content_type: string | null
  readonly detected_type: string | null
  readonly file_name: string | null
  readonly authenticated: boolean
  readonly created_at: bigint
  readonly expires_at: bigint | null
  readonly last_used_at: bigint
  readonly quarantined_by: string | null
}

const toRow = (row: Row): MediaRow => ({
  origin: row.origin,
  mediaId: row.media_id,
  userId: row.user_id ?? undefined,
  content:
    row.sha256 === null
      ? undefined
      : {
          sha256: row.sha256,
          size: Number(row.size),
          contentType: row.content_type ?? undefined,
          detectedType: row.detected_type ?? undefined,
          fileName: row.file_name ?? undefined
        },
  authenticated: row.authenticated,
  createdAt: Number(row.created_at),
  expiresAt: row.expires_at === null ? undefined : Number(row.expires_at),
  lastUsedAt: Number(row.last_used_at),
  quarantinedBy: row.quarantined_by ?? undefined
})

/** What became of an upload. */
export type Completion = "done" | "no-such-id" | "has-content" | "over-quota"

export interface Upload extends MediaName {
  readonly userId: UserId
  readonly content: StoredContent
  readonly authenticated: boolean
  /** The most bytes that the user may have. */
  readonly quota: number
}

export class MediaStore extends Context.Service<
  MediaStore,
  {
    readonly find: (name: MediaName) => Effect.Effect<Option.Option<MediaRow>>
    /** Says that content is about to be stored. */
    readonly touch: (sha256: Uint8Array, size: number) => Effect.Effect<void>
    /** A content ID whose upload follows. False if the user has `limit` of them already. */
    readonly reserve: (
      name: MediaName & { readonly userId: UserId; readonly authenticated: boolean },
      expiresAt: number,
      limit: number
    ) => Effect.Effect<boolean>
    /** A new content ID with its content. False if the user would have more than the quota. */
    readonly add: (upload: Upload) => Effect.Effect<boolean>
    /** The content of a content ID that was reserved. */
    readonly complete: (upload: Upload) => Effect.Effect<Completion>
    /** Content of another server, instead of what was there. */
    readonly putRemote: (name: MediaName, content: StoredContent, authenticated: boolean) => Effect.Effect<void>
    /** Bytes that the user has uploaded. */
    readonly usageOf: (userId: UserId) => Effect.Effect<number>
    readonly thumbnail: (source: Uint8Array, variant: string) => Effect.Effect<Option.Option<ThumbnailRow>>
    readonly addThumbnail: (source: Uint8Array, variant: string, row: ThumbnailRow) => Effect.Effect<void>
    readonly used: (name: MediaName, now: number) => Effect.Effect<void>
  }
>()("greenroom/store/MediaStore") {
  static readonly layer = Layer.effect(
    MediaStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const find = Effect.fnUntraced(function* ({ mediaId, origin }: MediaName) {
        const rows = yield* sql<Row>`SELECT * FROM media WHERE origin = ${origin} AND media_id = ${mediaId}`
        return Option.map(Option.fromNullishOr(rows[0]), toRow)
      }, Effect.orDie)

      const touch = Effect.fnUntraced(function* (sha256: Uint8Array, size: number) {
        const now = yield* Clock.currentTimeMillis
        yield* sql`
          INSERT INTO media_blobs (sha256, size, touched_at) VALUES (${sha256}, ${size}, ${now})
          ON CONFLICT (sha256) DO UPDATE SET touched_at = excluded.touched_at`
      }, Effect.orDie)

      const reserve: MediaStore["Service"]["reserve"] = Effect.fnUntraced(function* (name, expiresAt, limit) {
        const now = yield* Clock.currentTimeMillis
        const { authenticated, mediaId, origin, userId } = name
        const rows = yield* sql`
          INSERT INTO media (origin, media_id, user_id, authenticated, created_at, expires_at, last_used_at)
          SELECT ${origin}, ${mediaId}, ${userId}::text, ${authenticated}, ${now}, ${expiresAt}, ${now}
          WHERE (SELECT count(*) FROM media WHERE user_id = ${userId} AND sha256 IS NULL AND expires_at > ${now}) < ${limit}
          RETURNING 1`
        return rows.length === 1
      }, Effect.orDie)

      /** Counts the bytes of an upload; no row if there is no room for them. */
      const charge = ({ content, quota, userId }: Upload) => sql`
        INSERT INTO media_usage (user_id, bytes) SELECT ${userId}, ${content.size}::bigint WHERE ${content.size}::bigint <= ${quota}::bigint
        ON CONFLICT (user_id) DO UPDATE SET bytes = media_usage.bytes + excluded.bytes
        WHERE media_usage.bytes + excluded.bytes <= ${quota}::bigint
        RETURNING 1`

      const add = Effect.fnUntraced(function* (upload: Upload) {
        const now = yield* Clock.currentTimeMillis
        const { authenticated, content, mediaId, origin, userId } = upload
        const rows = yield* sql`
          WITH charged AS (${charge(upload)})
          INSERT INTO media (
            origin, media_id, user_id, sha256, size, content_type, detected_type, file_name, authenticated, created_at,
            last_used_at
          )
          SELECT ${origin}, ${mediaId}, ${userId}, ${content.sha256}, ${content.size}, ${content.contentType ?? null},
            ${content.detectedType ?? null}, ${content.fileName ?? null}, ${authenticated}, ${now}, ${now}
          FROM charged RETURNING 1`
        return rows.length === 1
      }, Effect.orDie)

      const complete = Effect.fnUntraced(
        function* (upload: Upload) {
          const now = yield* Clock.currentTimeMillis
          const { content, mediaId, origin } = upload
          const found = yield* sql<{ sha256: Uint8Array | null; expires_at: bigint | null }>`
            SELECT sha256, expires_at FROM media WHERE origin = ${origin} AND media_id = ${mediaId} FOR UPDATE`
          const row = found[0]
          if (row === undefined) return "no-such-id"
          if (row.sha256 !== null) return "has-content"
          if (Number(row.expires_at) <= now) return "no-such-id"
          if ((yield* charge(upload)).length === 0) return "over-quota"
          yield* sql`
            UPDATE media SET sha256 = ${content.sha256}, size = ${content.size}, content_type = ${content.contentType ?? null},
              detected_type = ${content.detectedType ?? null}, file_name = ${content.fileName ?? null}, expires_at = NULL
            WHERE origin = ${origin} AND media_id = ${mediaId}`
          return "done"
        },
        sql.withTransaction,
        Effect.orDie
      ) as (upload: Upload) => Effect.Effect<Completion>

      const putRemote: MediaStore["Service"]["putRemote"] = Effect.fnUntraced(function* (name, content, authenticated) {
        const { mediaId, origin } = name
        const now = yield* Clock.currentTimeMillis
        yield* sql`
          INSERT INTO media (
            origin, media_id, sha256, size, content_type, detected_type, file_name, authenticated, created_at, last_used_at
          ) VALUES (
            ${origin}, ${mediaId}, ${content.sha256}, ${content.size}, ${content.contentType ?? null},
            ${content.detectedType ?? null}, ${content.fileName ?? null}, ${authenticated}, ${now}, ${now}
          ) ON CONFLICT (origin, media_id) DO UPDATE SET sha256 = excluded.sha256, size = excluded.size,
            content_type = excluded.content_type, detected_type = excluded.detected_type, file_name = excluded.file_name,
            last_used_at = excluded.last_used_at
            WHERE media.user_id IS NULL`
      }, Effect.orDie)

      const usageOf = Effect.fnUntraced(function* (userId: UserId) {
        const rows = yield* sql<{ bytes: bigint }>`SELECT bytes FROM media_usage WHERE user_id = ${userId}`
        return Number(rows[0]?.bytes ?? 0)
      }, Effect.orDie)

      const thumbnail = Effect.fnUntraced(function* (source: Uint8Array, variant: string) {
        const rows = yield* sql<{ sha256: Uint8Array; size: bigint; content_type: string }>`
          SELECT sha256, size, content_type FROM media_thumbnails WHERE source = ${source} AND variant = ${variant}`
        return Option.map(Option.fromNullishOr(rows[0]), ({ content_type, sha256, size }) => ({
          sha256,
          size: Number(size),
          contentType: content_type
        }))
      }, Effect.orDie)

      const addThumbnail = Effect.fnUntraced(function* (source: Uint8Array, variant: string, row: ThumbnailRow) {
        yield* sql`
          INSERT INTO media_thumbnails (source, variant, sha256, size, content_type)
          VALUES (${source}, ${variant}, ${row.sha256}, ${row.size}, ${row.contentType}) ON CONFLICT DO NOTHING`
      }, Effect.orDie)

      const used = Effect.fnUntraced(function* ({ mediaId, origin }: MediaName, now: number) {
        yield* sql`UPDATE media SET last_used_at = ${now} WHERE origin = ${origin} AND media_id = ${mediaId}`
      }, Effect.orDie)

      return MediaStore.of({ find, touch, reserve, add, complete, putRemote, usageOf, thumbnail, addThumbnail, used })
    })
  )
}
