/**
 * All refresh tokens of a login have one secret in common, its family. A token of the family that is neither the present nor the
 * next one was used before: two parties have it.
 *
 * Source: "Refresh token grant" of the client-server specification; RFC 9700, 4.14.2.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE access_tokens ADD COLUMN refresh_family bytea UNIQUE`
  yield* sql`COMMENT ON COLUMN access_tokens.refresh_family IS
    'SHA-256 of what the refresh tokens have in common; null for tokens without a family, of before this column'`
})
