/**
 * Logins of several requests, third-party IDs and identities of OAuth2 providers, and registration tokens.
 * Times are milliseconds since 1970 (`bigint`).
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE login_sessions (
      session_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      session_hash bytea NOT NULL UNIQUE,
      link_hash bytea UNIQUE,
      state_hash bytea UNIQUE,
      purpose text NOT NULL,
      progress text NOT NULL,
      version integer NOT NULL DEFAULT 1,
      tries integer NOT NULL DEFAULT 0,
      address text NOT NULL,
      expires_at bigint NOT NULL
    )`
  yield* sql`COMMENT ON TABLE login_sessions IS 'logins, registrations and links that are under way; every hash is a SHA-256 of a secret'`
  yield* sql`COMMENT ON COLUMN login_sessions.link_hash IS 'of the link in a mail, or to the page that selects a service'`
  yield* sql`COMMENT ON COLUMN login_sessions.state_hash IS 'of the state of an OAuth2 authorisation request'`
  yield* sql`COMMENT ON COLUMN login_sessions.progress IS 'JSON text'`
  yield* sql`COMMENT ON COLUMN login_sessions.address IS 'where it was begun: an IPv4 address or an IPv6 network'`
  yield* sql`CREATE INDEX login_sessions_address ON login_sessions (address)`
  yield* sql`CREATE INDEX login_sessions_age ON login_sessions (expires_at)`

  // A leaky bucket for each account and address: a failed attempt adds one to the level, which decreases with time.
  yield* sql`
    CREATE TABLE login_attempts (
      key_hash bytea PRIMARY KEY,
      level double precision NOT NULL,
      updated_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX login_attempts_age ON login_attempts (updated_at)`

  yield* sql`
    CREATE TABLE user_threepids (
      medium text NOT NULL,
      address text NOT NULL,
      user_id text NOT NULL REFERENCES users,
      verified_at bigint NOT NULL,
      PRIMARY KEY (medium, address)
    )`
  yield* sql`COMMENT ON TABLE user_threepids IS 'addresses that were shown to be the user''s'`
  yield* sql`CREATE INDEX user_threepids_user ON user_threepids (user_id)`

  yield* sql`
    CREATE TABLE user_identities (
      provider text NOT NULL,
      subject text NOT NULL,
      user_id text NOT NULL REFERENCES users,
      linked_at bigint NOT NULL,
      PRIMARY KEY (provider, subject)
    )`
  yield* sql`COMMENT ON COLUMN user_identities.subject IS 'what the OAuth2 provider calls the user, as JSON text'`
  yield* sql`CREATE INDEX user_identities_user ON user_identities (user_id)`

  yield* sql`
    CREATE TABLE registration_tokens (
      token_hash bytea PRIMARY KEY,
      token_id text NOT NULL UNIQUE,
      uses_allowed integer,
      uses integer NOT NULL DEFAULT 0,
      expires_at bigint,
      created_at bigint NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN registration_tokens.uses_allowed IS 'NULL for any number'`
})
