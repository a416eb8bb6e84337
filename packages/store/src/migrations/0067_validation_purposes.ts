/**
 * The purpose of an address validation. Opening the link is enough to register with an address or to add it to an account; a password is
 * set only by a validation that was made for it, and confirmed by the button of its page. Earlier validations were all confirmed so.
 *
 * Source: "Adding Account Administrative Contact Information" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE address_validations ADD COLUMN purpose text NOT NULL DEFAULT 'password'`
})
