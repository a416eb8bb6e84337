/**
 * Uploaded files of nodes that share no directory and no object store. A file has its first chunk (position 0) once it is
 * complete.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE media_chunks (
      sha256 bytea NOT NULL,
      position integer NOT NULL,
      bytes bytea NOT NULL,
      PRIMARY KEY (sha256, position)
    )`
  // Media are compressed already.
  yield* sql`ALTER TABLE media_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL`
  yield* sql`COMMENT ON COLUMN media_chunks.sha256 IS 'of the whole file'`
})
