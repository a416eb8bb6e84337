/**
 * The content repository: files by the hash of their content, their names, thumbnails, and uploads of
 * users.
 *
 * Source: "Content repository" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE media_blobs (
      sha256 bytea PRIMARY KEY,
      size bigint NOT NULL,
      touched_at bigint NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN media_blobs.touched_at IS 'When somebody last began to store this content; it is not removed soon after'`
  yield* sql`CREATE INDEX media_blobs_age ON media_blobs (touched_at)`
  yield* sql`
    CREATE TABLE media (
      origin text NOT NULL,
      media_id text NOT NULL,
      user_id text,
      sha256 bytea REFERENCES media_blobs,
      size bigint,
      content_type text,
      detected_type text,
      file_name text,
      authenticated boolean NOT NULL,
      created_at bigint NOT NULL,
      expires_at bigint,
      last_used_at bigint NOT NULL,
      quarantined_by text,
      PRIMARY KEY (origin, media_id)
    )`
  yield* sql`COMMENT ON COLUMN media.user_id IS 'Who uploaded it; null for the content of other servers'`
  yield* sql`COMMENT ON COLUMN media.sha256 IS 'Null while the upload has not arrived'`
  yield* sql`COMMENT ON COLUMN media.authenticated IS 'Served to users and servers only, not by the old endpoints'`
  yield* sql`COMMENT ON COLUMN media.expires_at IS 'When a content ID that was not used is forgotten'`
  yield* sql`CREATE INDEX media_content ON media (sha256)`
  yield* sql`CREATE INDEX media_pending ON media (user_id, expires_at) WHERE sha256 IS NULL`
  yield* sql`CREATE INDEX media_by_user ON media (user_id, created_at) WHERE user_id IS NOT NULL`
  yield* sql`CREATE INDEX media_remote_age ON media (last_used_at) WHERE user_id IS NULL`
  yield* sql`
    CREATE TABLE media_usage (
      user_id text PRIMARY KEY,
      bytes bigint NOT NULL
    )`
  yield* sql`
    CREATE TABLE media_thumbnails (
      source bytea NOT NULL REFERENCES media_blobs ON DELETE CASCADE,
      variant text NOT NULL,
      sha256 bytea NOT NULL REFERENCES media_blobs,
      size bigint NOT NULL,
      content_type text NOT NULL,
      PRIMARY KEY (source, variant)
    )`
  yield* sql`CREATE INDEX media_thumbnails_content ON media_thumbnails (sha256)`
  yield* sql`COMMENT ON COLUMN media_thumbnails.variant IS 'Width, height, method and whether animated: 96x96 crop'`
})
