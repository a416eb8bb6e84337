/**
 * Commands of the operator that lose the database, or are killed, in the middle: they leave nothing half done, say so in one line, and the
 * same command does it afterwards.
 */
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Redacted, Schedule } from "effect"
import { Client } from "pg"
import { command } from "../../apps/gateway/test/support/Commands.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { started } from "../support/Greenroom.ts"

const { serverName } = GatewayProcess
const contacts = 300

const card = (number: number) =>
  `BEGIN:VCARD\r\nVERSION:4.0\r\nUID:urn:${number}\r\nFN:Person ${number}\r\nEMAIL:p${number}@example.org\r\nEND:VCARD\r\n`

const connect = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const client = new Client({ connectionString: Redacted.value(url) })
  yield* Effect.acquireRelease(
    Effect.promise(() => client.connect()),
    () => Effect.promise(() => client.end())
  )
  return (sql: string) => Effect.promise(() => client.query(sql))
})

/** A server's database, and a lock on one of its tables at which commands can be made to wait. */
const setUp = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const directory = yield* GatewayProcess.temporaryDirectory
  const [holder, watcher] = [yield* connect(url), yield* connect(url)]
  const settings = ["--database-url", Redacted.value(url), "--data-dir", directory, "--server-name", serverName]
  const run = (words: ReadonlyArray<string>, input?: string) => command([...words, ...settings], input)
  const waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
  const untilWaiting = Effect.repeat(watcher(waiting), {
    until: ({ rowCount }) => rowCount === 1,
    schedule: Schedule.spaced("20 millis")
  })
  /** Runs `use` while commands wait where they come to the table. */
  const held = <A, E, R>(table: string, use: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.andThen(holder("BEGIN"), holder(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`)),
      () => use,
      () => holder("ROLLBACK")
    )
  /** The command loses its connection to the database where it waits. It must fail with one line, which is given back. */
  const cutOff = Effect.fnUntraced(function* (words: ReadonlyArray<string>, input?: string) {
    const running = yield* Effect.forkChild(run(words, input))
    yield* untilWaiting
    yield* watcher(`SELECT pg_terminate_backend(pid) FROM (${waiting}) AS found`)
    const { code, error, out } = yield* Fiber.join(running)
    assert.strictEqual(code, 1, out)
    assert.match(error, /^greenroom: [^\n]+\n$/)
    return error
  })
  /** The same at a table. */
  const loses = (words: ReadonlyArray<string>, table: string, input?: string) => held(table, cutOff(words, input))
  /** The process of the command is killed at the table. */
  const isKilled = (words: ReadonlyArray<string>, table: string) =>
    held(
      table,
      Effect.scoped(
        Effect.gen(function* () {
          const running = yield* started([...words, ...settings])
          yield* untilWaiting
          yield* running.kill
          // PostgreSQL notices it when the statement ends.
          yield* watcher(`SELECT pg_terminate_backend(pid) FROM (${waiting}) AS found`)
        })
      )
    )
  const succeeds = Effect.fnUntraced(function* (words: ReadonlyArray<string>, input?: string) {
    const said = yield* run(words, input)
    assert.strictEqual(said.code, 0, said.error)
    return said.out
  })
  const count = (table: string) =>
    Effect.map(watcher(`SELECT count(*)::int AS count FROM ${table}`), ({ rows }) => rows[0].count as number)
  return { ask: watcher, count, cutOff, directory, isKilled, loses, succeeds }
})

/** Makes a restore wait where it has loaded everything, right before it commits. */
const stopBeforeCommit = `
  CREATE SCHEMA stopped;
  CREATE FUNCTION stopped.wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_query() = 'DROP TABLE restore_unfinished' THEN PERFORM pg_advisory_xact_lock(42); END IF; END $$;
  CREATE EVENT TRIGGER stopped ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION stopped.wait();
  SELECT pg_advisory_lock(42)`

describe("commands that are interrupted", () => {
  it.live("an import adds all contacts or none", () =>
    Effect.gen(function* () {
      const { count, directory, isKilled, loses, succeeds } = yield* setUp(yield* TestDatabase.url)
      yield* succeeds(["user", "create", "alice"])
      const file = path.join(directory, "contacts.vcf")
      yield* Effect.promise(() => fs.writeFile(file, Array.from({ length: contacts }, (_, n) => card(n)).join("")))
      const words = ["import", "contacts", file, "--user", "alice"]
      assert.match(yield* loses(words, "contact_addresses"), /database/)
      assert.strictEqual(yield* count("contacts"), 0)
      yield* isKilled(words, "contact_addresses")
      assert.strictEqual(yield* count("contacts"), 0)
      assert.match(yield* succeeds(words), /has 300 contacts: 300 new/)
      assert.match(yield* succeeds(words), /has 300 contacts: 0 new, 0 merged, 300 unchanged/)
    }).pipe(Effect.scoped)
  )

  it.live("a backup leaves no file that looks like one", () =>
    Effect.gen(function* () {
      const { directory, isKilled, loses, succeeds } = yield* setUp(yield* TestDatabase.url)
      yield* succeeds(["user", "create", "alice"])
      const file = path.join(directory, "green.backup")
      assert.match(yield* loses(["backup", file], "users"), /The backup could not be made/)
      assert.isFalse(existsSync(file) || existsSync(`${file}.unfinished`))
      yield* isKilled(["backup", file], "users")
      assert.isFalse(existsSync(file))
      yield* succeeds(["backup", file])
    }).pipe(Effect.scoped)
  )

  it.live("a restore that lost the database can be run again", () =>
    Effect.gen(function* () {
      const { directory, succeeds } = yield* setUp(yield* TestDatabase.url)
      yield* succeeds(["user", "create", "alice"])
      const file = path.join(directory, "green.backup")
      yield* succeeds(["backup", file])
      const { ask, count, cutOff, succeeds: does } = yield* setUp(yield* TestDatabase.emptyUrl)
      yield* ask(stopBeforeCommit)
      const error = yield* cutOff(["restore", file])
      assert.match(error, /The backup could not be restored/)
      yield* ask("DROP EVENT TRIGGER stopped; SELECT pg_advisory_unlock(42); DROP SCHEMA stopped CASCADE")
      yield* does(["restore", file])
      assert.strictEqual(yield* count("users"), 1)
    }).pipe(Effect.scoped)
  )

  it.live("an export leaves no file that looks like one", () =>
    Effect.gen(function* () {
      const { directory, loses, succeeds } = yield* setUp(yield* TestDatabase.url)
      for (const name of ["carol", "dora"])
        yield* succeeds(["user", "create", name, "--admin", "--password-stdin"], name)
      yield* succeeds(["user", "create", "alice"])
      const asked = yield* succeeds(
        ["export", "request", "alice", "--as", "carol", "--reason", "order", "--json"],
        "carol"
      )
      const id: string = JSON.parse(asked).export_id
      yield* succeeds(["export", "approve", id, "--as", "dora", "--reason", "seen"], "dora")
      const file = path.join(directory, "alice.jsonl")
      const read = ["export", "read", id, file, "--as", "carol"]
      assert.match(yield* loses(read, "contacts", "carol"), /The export could not be written/)
      assert.isFalse(existsSync(file) || existsSync(`${file}.unfinished`))
      yield* succeeds(read, "carol")
      const lines = (yield* Effect.promise(() => fs.readFile(file, "utf8"))).trimEnd().split("\n")
      assert.strictEqual(JSON.parse(lines.at(-1)!).parts, lines.length - 2)
    }).pipe(Effect.scoped)
  )
})
