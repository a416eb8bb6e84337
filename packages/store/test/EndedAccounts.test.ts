import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { AccountStore } from "../src/AccountStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { untilBlocked } from "./support/untilBlocked.ts"

/** Runs an effect beside a transaction of the caller. */
const beside = Effect.map(Effect.context<AccountStore | SqlClient.SqlClient>(), Effect.runForkWith)

/** Tables with a column `user_id` in which a deactivated account may have rows: each with the reason. */
const exempt: { readonly [table: string]: string } = {
  access_tokens: "createToken locks the account",
  account_standings: "of administrators",
  app_service_sessions: "tokenId locks the account",
  backed_up_keys: "belongs to key_backups",
  contact_addresses: "belongs to contacts",
  contact_books: "the writer locks the account",
  contacts: "belongs to contact_books",
  data_exports: "of administrators",
  dehydrated_devices: "belongs to access_tokens",
  device_keys: "belongs to access_tokens",
  device_list_changes: "the end of the account is a change",
  early_receipts: "of other servers",
  erasures: "of the end itself",
  fallback_keys: "belongs to access_tokens",
  forgotten_rooms: "about rooms",
  former_presence: "sent at the next start",
  key_count_changes: "about access_tokens",
  media_usage: "written with media",
  membership_changes: "about rooms",
  memberships: "about rooms: the user leaves them",
  mentions: "about rooms, by events of others",
  notice_rooms: "of the server",
  one_time_keys: "belongs to access_tokens",
  presence: "removed when the deactivation is finished",
  profile_propagations: "written with profile_fields",
  push_actions: "about rooms, by events of others",
  receipts: "about rooms",
  remote_device_lists: "of other servers",
  reports: "for administrators",
  session_revocations: "of the end itself",
  to_device_messages: "the writer locks the device",
  unfinished_memberships: "about rooms: the user leaves them",
  unfinished_upgrades: "about rooms",
  user_directory: "follows the profile",
  user_directory_queue: "follows the profile",
  user_redactions: "of administrators",
  users: "the account itself",
  waiting_notices: "of the server"
}

const user = (name: string) => `@${name}:green.test` as UserId

const set = Effect.fnUntraced(function* (userId: UserId) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO account_data (user_id, room_id, type, content) VALUES (${userId}, '', 'org.example', '{}')`
})

const stored = Effect.fnUntraced(function* (userId: UserId) {
  const sql = yield* SqlClient.SqlClient
  return (yield* sql`SELECT 1 FROM account_data WHERE user_id = ${userId}`).length
})

layer(AccountStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)), { excludeTestServices: true })(
  "deactivated accounts",
  (it) => {
    it.effect("store nothing in any table that is theirs", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const rows = yield* sql<{ name: string }>`
          SELECT relname::text AS name FROM pg_class
          JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'user_id'
          WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND NOT EXISTS (
            SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgname = 'require_active_account')
          ORDER BY relname COLLATE "C"`
        assert.deepStrictEqual(
          rows.map(({ name }) => name),
          Object.keys(exempt)
        )
      })
    )

    it.effect("a write that began before the deactivation is deleted by it", () =>
      Effect.gen(function* () {
        const store = yield* AccountStore
        const sql = yield* SqlClient.SqlClient
        const early = user("early")
        yield* store.create(early)
        const fork = yield* beside
        const ending = yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* set(early)
            const ending = fork(store.deactivate(early))
            yield* untilBlocked
            return ending
          })
        )
        yield* Fiber.join(ending)
        assert.strictEqual(yield* stored(early), 0)
      })
    )

    it.effect("a write that waits for the deactivation fails", () =>
      Effect.gen(function* () {
        const store = yield* AccountStore
        const sql = yield* SqlClient.SqlClient
        const late = user("late")
        yield* store.create(late)
        const fork = yield* beside
        const writing = yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* store.deactivate(late)
            const writing = fork(Effect.exit(set(late)))
            yield* untilBlocked
            return writing
          })
        )
        assert.strictEqual((yield* Fiber.join(writing))._tag, "Failure")
        assert.strictEqual(yield* stored(late), 0)
      })
    )

    it.effect("a login that waits for the deactivation is refused", () =>
      Effect.gen(function* () {
        const store = yield* AccountStore
        const sql = yield* SqlClient.SqlClient
        const login = { userId: user("login"), token: Redacted.make("login"), deviceId: "D" }
        yield* store.create(login.userId)
        const fork = yield* beside
        const opening = yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* store.deactivate(login.userId)
            const opening = fork(store.createToken(login))
            yield* untilBlocked
            return opening
          })
        )
        assert.isTrue(Option.isNone(yield* Fiber.join(opening)))
      })
    )
  }
)
