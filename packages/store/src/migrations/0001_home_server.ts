/**
 * The tables of one home server. Times are milliseconds since 1970 (`bigint`), event bodies are JSON text, which PostgreSQL does
 * not parse: `jsonb` cannot hold U+0000 and lone surrogates, `text` holds their escapes.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // --- Rooms and their events -------------------------------------------------------------------------------------

  // A room is visible to readers once it has a current state. `fence` is the fencing token of the Room actor that may write: commits
  // with a lower one are refused.
  // `current_*` is the state after all forward extremities; name, topic and counts serve the room list.
  yield* sql`
    CREATE TABLE rooms (
      room_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      room_id text NOT NULL UNIQUE,
      version text NOT NULL,
      fence bigint NOT NULL DEFAULT 0,
      visibility text NOT NULL DEFAULT 'private',
      forward_extremities text[] NOT NULL DEFAULT '{}',
      current_chain bigint,
      current_seq integer,
      name text,
      topic text,
      joined_members integer NOT NULL DEFAULT 0,
      created_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX rooms_public ON rooms (joined_members DESC, room_nid) WHERE visibility = 'public'`

  // The event log. (xid, nid) orders the stream and the timeline of each room. Readers of the stream read below the oldest running
  // transaction, so they do not miss events that commit late. Back-filled events have xid 0 and decreasing negative nids: they
  // sort before all others.
  yield* sql`CREATE SEQUENCE event_nids INCREMENT BY 10000`
  yield* sql`
    CREATE TABLE events (
      nid bigint PRIMARY KEY,
      xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
      room_nid bigint NOT NULL,
      event_id text NOT NULL UNIQUE,
      type text NOT NULL,
      state_key text,
      sender text NOT NULL,
      depth bigint NOT NULL,
      state_chain bigint,
      state_seq integer,
      after_chain bigint,
      after_seq integer,
      status smallint NOT NULL DEFAULT 0,
      relates_to text,
      body text NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN events.relates_to IS 'the event that feedback is about or a redaction strips'`
  yield* sql`COMMENT ON COLUMN events.status IS
    '0 timeline, 1 back-filled, 2 soft-failed, 3 rejected, 4 outlier (known, but not placed in the graph)'`
  yield* sql`COMMENT ON COLUMN events.state_chain IS 'with state_seq: the state before the event'`
  yield* sql`COMMENT ON COLUMN events.after_chain IS 'with after_seq: the state after the event, where it is another'`
  yield* sql`CREATE INDEX events_stream ON events (xid, nid) WHERE status = 0`
  yield* sql`CREATE INDEX events_timeline ON events (room_nid, xid, nid) WHERE status <= 1`
  yield* sql`CREATE INDEX events_state ON events (room_nid, type, state_key, xid, nid) WHERE state_key IS NOT NULL`
  yield* sql`
    CREATE INDEX events_relation ON events (relates_to) WHERE relates_to IS NOT NULL`

  // State as deltas. The state at (chain, seq) is the newest row of each (type, state_key) with at most that seq. Keys without a
  // row in the chain are looked up in its parent at parent_seq. A chain without a parent begins with a snapshot.
  yield* sql`CREATE SEQUENCE state_chain_ids INCREMENT BY 100`
  yield* sql`
    CREATE TABLE state_chains (
      chain bigint PRIMARY KEY,
      room_nid bigint NOT NULL,
      parent_chain bigint,
      parent_seq integer,
      height smallint NOT NULL DEFAULT 0
    )`
  yield* sql`CREATE INDEX state_chains_room ON state_chains (room_nid)`
  yield* sql`
    CREATE TABLE state_deltas (
      chain bigint NOT NULL,
      type text NOT NULL,
      state_key text NOT NULL,
      seq integer NOT NULL,
      event_nid bigint,
      PRIMARY KEY (chain, type, state_key, seq)
    )`
  yield* sql`COMMENT ON COLUMN state_deltas.event_nid IS 'NULL: the key was removed by state resolution'`

  // The current membership of all users in each room, and the changes of memberships of users of this server, in stream order.
  yield* sql`
    CREATE TABLE memberships (
      room_nid bigint NOT NULL,
      user_id text NOT NULL,
      membership text NOT NULL,
      sender text NOT NULL,
      event_nid bigint NOT NULL,
      PRIMARY KEY (room_nid, user_id)
    )`
  yield* sql`CREATE INDEX memberships_user ON memberships (user_id, membership)`
  yield* sql`
    CREATE TABLE membership_changes (
      user_id text NOT NULL,
      xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
      nid bigint NOT NULL,
      room_nid bigint NOT NULL,
      membership text NOT NULL,
      PRIMARY KEY (user_id, room_nid, nid)
    )`
  yield* sql`CREATE INDEX membership_changes_stream ON membership_changes (xid, nid)`

  // Answers to requests with a transaction ID, written in the same transaction as the change.
  yield* sql`
    CREATE TABLE client_transactions (
      token_id bigint NOT NULL,
      scope text NOT NULL,
      txn_id text NOT NULL,
      response text NOT NULL,
      created_at bigint NOT NULL,
      PRIMARY KEY (token_id, scope, txn_id)
    )`
  yield* sql`CREATE INDEX client_transactions_age ON client_transactions USING brin (created_at)`

  // The queue of events for other servers, written in the same transaction as the event.
  yield* sql`
    CREATE TABLE outgoing_pdus (
      destination text NOT NULL,
      event_nid bigint NOT NULL,
      PRIMARY KEY (destination, event_nid)
    )`

  yield* sql`
    CREATE TABLE room_aliases (
      alias text PRIMARY KEY,
      room_id text NOT NULL,
      servers text[] NOT NULL,
      creator text NOT NULL,
      created_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX room_aliases_room ON room_aliases (room_id)`

  // --- People -----------------------------------------------------------------------------------------------------

  yield* sql`
    CREATE TABLE users (
      user_id text PRIMARY KEY,
      password_hash text,
      admin boolean NOT NULL DEFAULT false,
      deactivated_at bigint,
      created_at bigint NOT NULL
    )`
  yield* sql`CREATE SEQUENCE allocated_localparts`
  yield* sql`
    CREATE TABLE access_tokens (
      token_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      token_hash bytea NOT NULL UNIQUE,
      user_id text NOT NULL REFERENCES users,
      device_id text NOT NULL,
      device_name text,
      created_at bigint NOT NULL,
      last_used_at bigint NOT NULL,
      expires_at bigint
    )`
  yield* sql`COMMENT ON COLUMN access_tokens.token_hash IS 'SHA-256; the token itself is nowhere'`
  yield* sql`COMMENT ON COLUMN access_tokens.device_name IS 'JSON text'`
  yield* sql`CREATE INDEX access_tokens_user ON access_tokens (user_id)`

  yield* sql`
    CREATE TABLE profile_fields (
      user_id text NOT NULL,
      field text NOT NULL,
      value text NOT NULL,
      visibility text NOT NULL DEFAULT 'public',
      PRIMARY KEY (user_id, field)
    )`
  yield* sql`COMMENT ON COLUMN profile_fields.value IS 'JSON text'`
  yield* sql`COMMENT ON COLUMN profile_fields.visibility IS 'public, rooms (who shares a room), contacts (whom the user accepted), private'`

  // Users whose changed display name or avatar is not in all of their rooms yet, written in the same transaction as the change.
  yield* sql`
    CREATE TABLE profile_propagations (
      user_id text PRIMARY KEY,
      change bigint NOT NULL DEFAULT 1
    )`

  // Presence lists: `observer` asked to see the presence of `observed`, who has accepted or not answered yet.
  yield* sql`
    CREATE TABLE presence_lists (
      observer text NOT NULL,
      observed text NOT NULL,
      accepted boolean NOT NULL,
      PRIMARY KEY (observer, observed)
    )`
  yield* sql`CREATE INDEX presence_lists_observed ON presence_lists (observed)`

  // The Presence actor writes a row when a presence has stopped changing, not at each change.
  yield* sql`
    CREATE TABLE presence (
      user_id text PRIMARY KEY,
      state text NOT NULL,
      status_msg text,
      last_active_at bigint,
      chosen_at bigint
    )`
  yield* sql`COMMENT ON COLUMN presence.status_msg IS 'JSON text'`
  yield* sql`COMMENT ON COLUMN presence.chosen_at IS 'when the user chose the state; NULL where the devices made it'`

  // --- The server itself ------------------------------------------------------------------------------------------

  yield* sql`
    CREATE TABLE server_settings (
      name text PRIMARY KEY,
      value text NOT NULL
    )`
  yield* sql`COMMENT ON TABLE server_settings IS 'server_name, and secrets made on the first start'`
  yield* sql`
    CREATE TABLE signing_keys (
      key_id text PRIMARY KEY,
      secret_key bytea NOT NULL,
      public_key bytea NOT NULL,
      created_at bigint NOT NULL,
      expired_at bigint
    )`
  yield* sql`CREATE UNIQUE INDEX signing_keys_current ON signing_keys ((true)) WHERE expired_at IS NULL`
})
