/**
 * The tables of the content repository: content IDs, the content of each, and how much every user has uploaded.
 *
 * Content is stored once for each hash. The order of writing is `touch` (the blob's row), then the file, then `add` or
 * `complete` (the row of a content ID). `removeUnused` removes files whose blob no row names, except those that were
 * touched recently, because they may still be being stored. A crash in between leaves a blob that no row names.
 *
 * An error of the database is a defect. Times are milliseconds since 1970, sizes bytes.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { counted } from "./internal/counted.ts"
import { makeMediaRemovals } from "./internal/mediaRemovals.ts"

/** The name of a file in the content repository, as in `mxc://origin/mediaId`. */
export interface MediaName {
  readonly origin: ServerName
  readonly mediaId: string
}

/** Content, as it was stored. */
export interface StoredContent {
  readonly sha256: Uint8Array
  readonly size: number
  /** The type that the uploader declares. */
  readonly contentType: string | undefined
  /** The type by the first bytes. */
  readonly detectedType: string | undefined
  readonly fileName: string | undefined
}

/** The row of a content ID. */
export interface MediaRow extends MediaName {
  /** Absent for the content of other servers. */
  readonly userId: UserId | undefined
  /** Absent until the upload has arrived. */
  readonly content: StoredContent | undefined
  readonly authenticated: boolean
  readonly createdAt: number
  readonly expiresAt: number | undefined
  readonly lastUsedAt: number
  readonly quarantinedBy: string | undefined
  readonly isProtected: boolean
}

/** A stored thumbnail. */
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
  readonly protected: boolean
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
  quarantinedBy: row.quarantined_by ?? undefined,
  isProtected: row.protected
})

/** The content that a user has, or may have. */
export interface Quota {
  readonly bytes: number
  readonly files: number
}

/** The outcome of an upload. */
export type Completion = "done" | "no-such-id" | "has-content" | "over-quota"

export interface Upload extends MediaName {
  readonly userId: UserId
  readonly content: StoredContent
  readonly authenticated: boolean
  readonly quota: Quota
}

export class MediaStore extends Context.Service<
  MediaStore,
  {
    readonly find: (name: MediaName) => Effect.Effect<Option.Option<MediaRow>>
    /** Marks content that is about to be stored. */
    readonly touch: (sha256: Uint8Array, size: number) => Effect.Effect<void>
    /** Creates a content ID whose upload follows. False if the user has `limit` of them already. */
    readonly reserve: (
      name: MediaName & { readonly userId: UserId; readonly authenticated: boolean },
      expiresAt: number,
      limit: number
    ) => Effect.Effect<boolean>
    /** Creates a content ID with its content. False if the user would exceed the quota. */
    readonly add: (upload: Upload) => Effect.Effect<boolean>
    /** Stores the content of a reserved content ID. */
    readonly complete: (upload: Upload) => Effect.Effect<Completion>
    /** Stores content of another server, and replaces its row. */
    readonly putRemote: (name: MediaName, content: StoredContent, authenticated: boolean) => Effect.Effect<void>
    /** How much the user has uploaded. */
    readonly usageOf: (userId: UserId) => Effect.Effect<Quota>
    /** The thumbnail of an image, by the hash of the image and the name of the size and method. */
    readonly thumbnail: (source: Uint8Array, variant: string) => Effect.Effect<Option.Option<ThumbnailRow>>
    /** Notes a thumbnail whose content is stored. Another node may have been first: its row stays. */
    readonly addThumbnail: (source: Uint8Array, variant: string, row: ThumbnailRow) => Effect.Effect<void>
    /**
     * Quarantines content, with all of its content IDs that are not protected; with `by` undefined, releases it. Quarantined content of
     * another server is not fetched. False for an unknown content ID of this server, or if nothing changed.
     */
    readonly quarantine: (name: MediaName, by: string | undefined, isRemote: boolean) => Effect.Effect<boolean>
    /** Protects a content ID from quarantine and from `removeLocal` and `removeLarge`, or ends that. False if there is none. */
    readonly protect: (name: MediaName, isProtected: boolean) => Effect.Effect<boolean>
    /** Deletes a content ID. False if there is none. */
    readonly remove: (name: MediaName) => Effect.Effect<boolean>
    /** Deletes at most `limit` content IDs of a user. Returns their number. */
    readonly removeUploads: (userId: UserId, limit: number) => Effect.Effect<number>
    /** The uploads of a user, newest first, after `last` in this order. */
    readonly uploadsOf: (
      userId: UserId,
      last: MediaRow | undefined,
      limit: number
    ) => Effect.Effect<ReadonlyArray<MediaRow>>
    /** Users whose accounts were erased and who have uploads. */
    readonly erasedUploaders: Effect.Effect<ReadonlyArray<UserId>>
    /** Deletes at most `limit` content IDs that were not used in time. Returns their number. */
    readonly removeExpired: (now: number, limit: number) => Effect.Effect<number>
    /** `removeLocal` for content of at least `size` bytes that is not the avatar of a user. */
    readonly removeLarge: (origin: ServerName, before: number, size: number, limit: number) => Effect.Effect<number>
    /** Deletes content of this server, or of others, that was last used before a time, except quarantined and protected content. */
    readonly removeLocal: (origin: ServerName, before: number, limit: number) => Effect.Effect<number>
    readonly removeRemote: (before: number, limit: number) => Effect.Effect<number>
    /** Deletes the least recently used content of other servers, down to the quota. */
    readonly trimRemote: (quota: Quota, limit: number) => Effect.Effect<number>
    /** Deletes the oldest thumbnails, down to so many bytes. Returns their number. */
    readonly trimThumbnails: (maxBytes: number, limit: number) => Effect.Effect<number>
    /**
     * Removes content without a row whose upload did not begin since `before`: at most `limit`. Returns the number.
     * `removeFile` is called for each while its row is locked, so that storing it again waits.
     */
    readonly removeUnused: (
      before: number,
      limit: number,
      removeFile: (sha256: Uint8Array) => Effect.Effect<void>
    ) => Effect.Effect<number>
    /** Notes that the content was read, which delays its removal. */
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
        const rows = yield* counted(sql)(`content IDs ${userId}`)(sql`
          INSERT INTO media (origin, media_id, user_id, authenticated, created_at, expires_at, last_used_at)
          SELECT ${origin}, ${mediaId}, ${userId}::text, ${authenticated}, ${now}, ${expiresAt}, ${now}
          WHERE ${limit} > (
            SELECT count(*) FROM media WHERE user_id = ${userId} AND sha256 IS NULL
              AND expires_at > ${now} AND expires_at <= ${expiresAt})
          RETURNING 1`)
        return rows.length === 1
      }, Effect.orDie)

      /** Counts an upload; returns no row if it would exceed the quota. */
      const charge = ({ content, quota, userId }: Upload) => sql`
        INSERT INTO media_usage (user_id, bytes, files)
        SELECT ${userId}, ${content.size}::bigint, 1
        WHERE ${content.size}::bigint <= ${quota.bytes}::bigint AND 1 <= ${quota.files}::bigint
        ON CONFLICT (user_id) DO UPDATE SET bytes = media_usage.bytes + excluded.bytes, files = media_usage.files + 1
        WHERE media_usage.bytes + excluded.bytes <= ${quota.bytes}::bigint AND media_usage.files < ${quota.files}::bigint
        RETURNING 1`

      /** The administrator that quarantined content, under any of its IDs. */
      const quarantineOf = ({ sha256 }: StoredContent) =>
        sql`(SELECT max(quarantined_by) FROM media WHERE sha256 = ${sha256})`

      const add = Effect.fnUntraced(function* (upload: Upload) {
        const now = yield* Clock.currentTimeMillis
        const { authenticated, content, mediaId, origin, userId } = upload
        const rows = yield* sql`
          WITH charged AS (${charge(upload)})
          INSERT INTO media (
            origin, media_id, user_id, sha256, size, content_type, detected_type, file_name, authenticated, created_at,
            last_used_at, quarantined_by
          )
          SELECT ${origin}, ${mediaId}, ${userId}, ${content.sha256}, ${content.size}, ${content.contentType ?? null},
            ${content.detectedType ?? null}, ${content.fileName ?? null}, ${authenticated}, ${now}, ${now},
            ${quarantineOf(content)}
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
              detected_type = ${content.detectedType ?? null}, file_name = ${content.fileName ?? null}, expires_at = NULL,
              quarantined_by = ${quarantineOf(content)}
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
            origin, media_id, sha256, size, content_type, detected_type, file_name, authenticated, created_at, last_used_at,
            quarantined_by
          ) VALUES (
            ${origin}, ${mediaId}, ${content.sha256}, ${content.size}, ${content.contentType ?? null},
            ${content.detectedType ?? null}, ${content.fileName ?? null}, ${authenticated}, ${now}, ${now}, ${quarantineOf(content)}
          ) ON CONFLICT (origin, media_id) DO UPDATE SET sha256 = excluded.sha256, size = excluded.size,
            content_type = excluded.content_type, detected_type = excluded.detected_type, file_name = excluded.file_name,
            last_used_at = excluded.last_used_at, quarantined_by = coalesce(media.quarantined_by, excluded.quarantined_by)
            WHERE media.user_id IS NULL`
      }, Effect.orDie)

      const usageOf = Effect.fnUntraced(function* (userId: UserId) {
        const rows = yield* sql<{ bytes: bigint; files: bigint }>`
          SELECT bytes, files FROM media_usage WHERE user_id = ${userId}`
        return { bytes: Number(rows[0]?.bytes ?? 0), files: Number(rows[0]?.files ?? 0) }
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

      const quarantine: MediaStore["Service"]["quarantine"] = Effect.fnUntraced(function* (name, by, isRemote) {
        const { mediaId, origin } = name
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql`
          UPDATE media SET quarantined_by = ${by ?? null}
          WHERE ((origin = ${origin} AND media_id = ${mediaId})
              OR sha256 = (SELECT sha256 FROM media WHERE origin = ${origin} AND media_id = ${mediaId}))
            AND (quarantined_by IS NULL) = ${by !== undefined} AND NOT (protected AND ${by !== undefined})
          RETURNING 1`
        if (rows.length > 0 || by === undefined || !isRemote) return rows.length > 0
        const added = yield* sql`
          INSERT INTO media (origin, media_id, authenticated, created_at, last_used_at, quarantined_by)
          VALUES (${origin}, ${mediaId}, false, ${now}, ${now}, ${by}) ON CONFLICT DO NOTHING RETURNING 1`
        return added.length > 0
      }, Effect.orDie)

      const protect = Effect.fnUntraced(function* ({ mediaId, origin }: MediaName, isProtected: boolean) {
        const rows = yield* sql`
          UPDATE media SET protected = ${isProtected} WHERE origin = ${origin} AND media_id = ${mediaId} RETURNING 1`
        return rows.length > 0
      }, Effect.orDie)

      const uploadsOf = Effect.fnUntraced(function* (userId: UserId, last: MediaRow | undefined, limit: number) {
        const follows =
          last === undefined ? sql`true` : sql`(created_at, media_id) < (${last.createdAt}::bigint, ${last.mediaId})`
        const rows = yield* sql<Row>`
          SELECT * FROM media WHERE user_id = ${userId} AND ${follows}
          ORDER BY created_at DESC, media_id DESC LIMIT ${limit}`
        return rows.map(toRow)
      }, Effect.orDie)

      return MediaStore.of({
        quarantine,
        protect,
        uploadsOf,
        erasedUploaders: sql<{ user_id: UserId }>`
          SELECT user_id FROM users WHERE erased AND EXISTS (SELECT 1 FROM media WHERE media.user_id = users.user_id)`.pipe(
          Effect.map((rows) => rows.map(({ user_id }) => user_id)),
          Effect.orDie
        ),
        ...makeMediaRemovals(sql),
        find,
        touch,
        reserve,
        add,
        complete,
        putRemote,
        usageOf,
        thumbnail,
        addThumbnail,
        used
      })
    })
  )
}
