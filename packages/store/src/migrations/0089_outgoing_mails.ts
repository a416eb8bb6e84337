/**
 * Mails that wait for the mail server, so that the end of a process loses none.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE outgoing_mails (
      mail_id text PRIMARY KEY,
      recipient text,
      subject text NOT NULL,
      body text NOT NULL,
      html text NOT NULL,
      since bigint NOT NULL,
      attempts integer NOT NULL DEFAULT 0,
      retry_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX outgoing_mails_due ON outgoing_mails (retry_at)`
  yield* sql`COMMENT ON COLUMN outgoing_mails.recipient IS 'null where nothing is sent: such a request takes as long as others'`
  yield* sql`COMMENT ON COLUMN outgoing_mails.since IS 'in ms since 1970'`
  yield* sql`COMMENT ON COLUMN outgoing_mails.attempts IS 'how often it was sent'`
  yield* sql`COMMENT ON COLUMN outgoing_mails.retry_at IS 'not to be sent before, in ms since 1970'`
})
