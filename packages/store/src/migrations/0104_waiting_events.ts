/** Events of other servers that wait for events before them. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE waiting_events (
      id bigint GENERATED ALWAYS AS IDENTITY,
      room_id text NOT NULL,
      event_id text NOT NULL,
      origin text NOT NULL,
      event text NOT NULL,
      bytes integer NOT NULL,
      follows text[] NOT NULL,
      since bigint NOT NULL,
      retry_at bigint NOT NULL,
      PRIMARY KEY (room_id, event_id)
    )`
  yield* sql`COMMENT ON COLUMN waiting_events.origin IS 'the server that sent the event'`
  yield* sql`COMMENT ON COLUMN waiting_events.event IS 'JSON text'`
  yield* sql`COMMENT ON COLUMN waiting_events.follows IS 'its predecessors and auth events'`
  yield* sql`COMMENT ON COLUMN waiting_events.retry_at IS 'not to be tried again before, in ms since 1970'`
  yield* sql`CREATE INDEX waiting_events_origin ON waiting_events (origin, id)`
  yield* sql`CREATE INDEX waiting_events_retry ON waiting_events (retry_at)`
})
