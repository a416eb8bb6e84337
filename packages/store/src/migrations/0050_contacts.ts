/** Address books: the contacts of users, and the addresses by which contacts are merged and found as Matrix users. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE contact_books (
      user_id text PRIMARY KEY REFERENCES users,
      contacts integer NOT NULL DEFAULT 0,
      bytes bigint NOT NULL DEFAULT 0
    )`
  yield* sql`COMMENT ON TABLE contact_books IS 'One row a user: its lock orders changes, its sums are the bounds'`
  yield* sql`
    CREATE TABLE contacts (
      user_id text NOT NULL,
      contact_id text NOT NULL,
      uid text NOT NULL,
      name text NOT NULL,
      sort_name text COLLATE "C" NOT NULL,
      search text NOT NULL,
      card text NOT NULL,
      size integer NOT NULL,
      version bigint NOT NULL DEFAULT 1,
      updated_at bigint NOT NULL,
      PRIMARY KEY (user_id, contact_id),
      UNIQUE (user_id, uid)
    )`
  yield* sql`COMMENT ON COLUMN contacts.card IS 'jCard (RFC 7095) as JSON text'`
  yield* sql`CREATE INDEX contacts_by_name ON contacts (user_id, sort_name, contact_id)`
  yield* sql`
    CREATE TABLE contact_addresses (
      user_id text NOT NULL,
      contact_id text NOT NULL,
      medium text NOT NULL,
      address text NOT NULL,
      matrix_id text,
      looked_up_at bigint,
      PRIMARY KEY (user_id, contact_id, medium, address),
      FOREIGN KEY (user_id, contact_id) REFERENCES contacts ON DELETE CASCADE
    )`
  yield* sql`COMMENT ON COLUMN contact_addresses.matrix_id IS 'The user of the address, as an identity server told'`
  yield* sql`CREATE INDEX contact_addresses_by_address ON contact_addresses (user_id, medium, address)`
  yield* sql`
    CREATE INDEX contact_addresses_of_users ON contact_addresses (user_id, matrix_id) WHERE matrix_id IS NOT NULL`
})
