/**
 * Invitations of third-party IDs that belong to no user yet. Times are milliseconds since 1970 (`bigint`).
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // The address itself is known to the identity server only: this table has the masked form that the room sees.
  yield* sql`
    CREATE TABLE third_party_invites (
      token text PRIMARY KEY,
      room_id text NOT NULL,
      sender text NOT NULL REFERENCES users,
      public_keys text[] NOT NULL,
      display_name text NOT NULL,
      transaction text UNIQUE,
      user_id text,
      claimed_until bigint NOT NULL DEFAULT 0,
      ended_at bigint,
      created_at bigint NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN third_party_invites.token IS 'what the identity server signs for the user of the address'`
  yield* sql`COMMENT ON COLUMN third_party_invites.public_keys IS 'Ed25519, one of which signs; unpadded base64'`
  yield* sql`COMMENT ON COLUMN third_party_invites.transaction IS 'the transaction of the request that invited'`
  yield* sql`COMMENT ON COLUMN third_party_invites.user_id IS 'for whom it was signed first, and who alone may take it'`
  yield* sql`COMMENT ON COLUMN third_party_invites.claimed_until IS 'until when one node works on it'`
  yield* sql`COMMENT ON COLUMN third_party_invites.ended_at IS 'when the user was invited, or could not be any more'`
  yield* sql`CREATE INDEX third_party_invites_age ON third_party_invites USING brin (created_at)`
})
