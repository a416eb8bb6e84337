/**
 * The tables of one identity server. Times are milliseconds since 1970 (`bigint`). Secrets of clients are stored only as keyed
 * hashes.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // The same two tables that a home server has: `ServerSettings` and `SigningKeys` of the store own them.
  yield* sql`
    CREATE TABLE server_settings (
      name text PRIMARY KEY,
      value text NOT NULL
    )`
  yield* sql`
    CREATE TABLE signing_keys (
      key_id text PRIMARY KEY,
      secret_key bytea NOT NULL,
      public_key bytea NOT NULL,
      created_at bigint NOT NULL,
      expired_at bigint
    )`
  yield* sql`CREATE UNIQUE INDEX signing_keys_current ON signing_keys ((true)) WHERE expired_at IS NULL`

  // Validation sessions. An unvalidated session expires with its token, a validated one later.
  yield* sql`
    CREATE TABLE validation_sessions (
      sid text PRIMARY KEY,
      medium text NOT NULL,
      address text NOT NULL,
      client_secret_hash bytea NOT NULL,
      token_hash bytea,
      send_attempt integer NOT NULL,
      tries integer NOT NULL DEFAULT 0,
      next_link text,
      validated_at bigint,
      expires_at bigint NOT NULL,
      UNIQUE (medium, address, client_secret_hash)
    )`
  yield* sql`COMMENT ON COLUMN validation_sessions.token_hash IS 'null once the token was used'`
  yield* sql`CREATE INDEX validation_sessions_expiry ON validation_sessions (expires_at)`

  // The times of messages to an address, for the rate limit.
  yield* sql`
    CREATE TABLE sent_messages (
      address_hash bytea NOT NULL,
      sent_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX sent_messages_address ON sent_messages (address_hash, sent_at)`
  yield* sql`CREATE INDEX sent_messages_time ON sent_messages (sent_at)`

  // The newest record of each address, of this server or a peer. `seq` numbers the records of this server in commit order.
  yield* sql`CREATE SEQUENCE association_seq`
  yield* sql`
    CREATE TABLE associations (
      medium text NOT NULL,
      address text NOT NULL,
      mxid text,
      ts bigint NOT NULL,
      not_before bigint NOT NULL,
      not_after bigint NOT NULL,
      origin text NOT NULL,
      record text NOT NULL,
      hash text NOT NULL,
      previous_hash text NOT NULL,
      seq bigint,
      PRIMARY KEY (medium, address)
    )`
  yield* sql`COMMENT ON COLUMN associations.mxid IS 'null where the address was unbound'`
  yield* sql`COMMENT ON COLUMN associations.seq IS 'null for records of peers'`
  yield* sql`CREATE INDEX associations_hash ON associations (hash) WHERE mxid IS NOT NULL`
  yield* sql`CREATE INDEX associations_previous_hash ON associations (previous_hash) WHERE mxid IS NOT NULL`
  yield* sql`CREATE UNIQUE INDEX associations_seq ON associations (seq) WHERE seq IS NOT NULL`

  // The peppers of the hashes: the newest is for `hash`, the one before for `previous_hash`.
  yield* sql`
    CREATE TABLE peppers (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      pepper text NOT NULL,
      created_at bigint NOT NULL
    )`

  // For each peer, the number of the last record of this server that it has acknowledged.
  yield* sql`
    CREATE TABLE replication_peers (
      name text PRIMARY KEY,
      acknowledged_seq bigint NOT NULL
    )`

  // Invitations of addresses without a user.
  yield* sql`
    CREATE TABLE invites (
      token text PRIMARY KEY,
      medium text NOT NULL,
      address text NOT NULL,
      room_id text NOT NULL,
      sender text NOT NULL,
      created_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX invites_address ON invites (medium, address)`
  yield* sql`CREATE INDEX invites_age ON invites (created_at)`

  // Requests to home servers that are not acknowledged yet.
  yield* sql`
    CREATE TABLE onbind_queue (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      server_name text NOT NULL,
      body text NOT NULL,
      attempts integer NOT NULL DEFAULT 0,
      next_attempt_at bigint NOT NULL,
      created_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX onbind_queue_due ON onbind_queue (next_attempt_at)`
})
