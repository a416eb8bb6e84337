/**
 * Commands of the operator that lose the database, or are killed, before they have finished. They leave nothing half done, fail with one
 * line, and succeed when they are run again.
 */
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Redacted, Schedule } from "effect"
import { Client } from "pg"
import { command, startGreenroom } from "../../apps/gateway/test/support/Commands.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"

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

/** Runs commands on a database, and interrupts them at a table of it. */
const operatorOf = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const directory = yield* GatewayProcess.temporaryDirectory
  const [holder, watcher] = [yield* connect(url), yield* connect(url)]
  const settings = ["--database-url", Redacted.value(url), "--data-dir", directory, "--server-name", serverName]
  const run = (args: ReadonlyArray<string>, input?: string) => command([...args, ...settings], input)
  const waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
  const untilWaiting = Effect.repeat(watcher(waiting), {
    until: ({ rowCount }) => rowCount === 1,
    schedule: Schedule.spaced("20 millis")
  })
  /** Runs `use` while commands wait for the lock of a table. */
  const withLock = <A, E, R>(table: string, use: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.andThen(holder("BEGIN"), holder(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`)),
      () => use,
      () => holder("ROLLBACK")
    )
  /** Ends the database connection of the waiting command. It must fail with one line, which is returned. */
  const cutOff = Effect.fnUntraced(function* (args: ReadonlyArray<string>, input?: string) {
    const running = yield* Effect.forkChild(run(args, input))
    yield* untilWaiting
    yield* watcher(`SELECT pg_terminate_backend(pid) FROM (${waiting}) AS found`)
    const { code, error, out } = yield* Fiber.join(running)
    assert.strictEqual(code, 1, out)
    assert.match(error, /^greenroom: [^\n]+\n$/)
    return error
  })
  const cutOffAt = (args: ReadonlyArray<string>, table: string, input?: string) => withLock(table, cutOff(args, input))
  /** Kills the process of the command at the table. */
  const killAt = (args: ReadonlyArray<string>, table: string) =>
    withLock(
      table,
      Effect.scoped(
        Effect.gen(function* () {
          const running = yield* startGreenroom([...args, ...settings])
          yield* untilWaiting
          yield* running.kill
          // PostgreSQL notices the closed connection only when the statement ends.
          yield* watcher(`SELECT pg_terminate_backend(pid) FROM (${waiting}) AS found`)
        })
      )
    )
  const succeeds = Effect.fnUntraced(function* (args: ReadonlyArray<string>, input?: string) {
    const { code, error, out } = yield* run(args, input)
    assert.strictEqual(code, 0, error)
    return out
  })
  const count = (table: string) =>
    Effect.map(watcher(`SELECT count(*)::int AS count FROM ${table}`), ({ rows }) => rows[0].count as number)
  return { ask: watcher, count, cutOff, cutOffAt, directory, killAt, succeeds }
})

/** Makes a restore wait right before it commits, with everything loaded. */
const stopBeforeCommit = `
  CREATE SCHEMA stopped;
  CREATE FUNCTION stopped.wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_query() = 'DROP TABLE restore_unfinished' THEN PERFORM pg_advisory_xact_lock(42); END IF; END $$;
  CREATE EVENT TRIGGER stopped ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION stopped.wait();
  SELECT pg_advisory_lock(42)`

describe("commands that are interrupted", () => {
  it.live("an import adds all contacts or none", () =>
    Effect.gen(function* () {
      const { count, cutOffAt, directory, killAt, succeeds } = yield* operatorOf(yield* TestDatabase.url)
      yield* succeeds(["user", "create", "alice"])
      const file = path.join(directory, "contacts.vcf")
      yield* Effect.promise(() => fs.writeFile(file, Array.from({ length: contacts }, (_, n) => card(n)).join("")))
      const args = ["import", "contacts", file, "--user", "alice"]
      assert.match(yield* cutOffAt(args, "contact_addresses"), /database/)
      assert.strictEqual(yield* count("contacts"), 0)
      yield* killAt(args, "contact_addresses")
      assert.strictEqual(yield* count("contacts"), 0)
      assert.match(yield* succeeds(args), /has 300 contacts: 300 new/)
      assert.match(yield* succeeds(args), /has 300 contacts: 0 new, 0 merged, 300 unchanged/)
    }).pipe(Effect.scoped)
  )

  it.live("a backup leaves no unfinished file under the requested name", () =>
    Effect.gen(function* () {
      const { cutOffAt, directory, killAt, succeeds } = yield* operatorOf(yield* TestDatabase.url)
      yield* succeeds(["user", "create", "alice"])
      const file = path.join(directory, "green.backup")
      assert.match(yield* cutOffAt(["backup", file], "users"), /The backup could not be made/)
      assert.isFalse(existsSync(file) || existsSync(`${file}.unfinished`))
      yield* killAt(["backup", file], "users")
      assert.isFalse(existsSync(file))
      yield* succeeds(["backup", file])
    }).pipe(Effect.scoped)
  )

  it.live("a restore that lost the database can be run again", () =>
    Effect.gen(function* () {
      const { directory, succeeds } = yield* operatorOf(yield* TestDatabase.url)
      yield* succeeds(["user", "create", "alice"])
      const file = path.join(directory, "green.backup")
      yield* succeeds(["backup", file])
      const target = yield* operatorOf(yield* TestDatabase.emptyUrl)
      yield* target.ask(stopBeforeCommit)
      const error = yield* target.cutOff(["restore", file])
      assert.match(error, /The backup could not be restored/)
      yield* target.ask("DROP EVENT TRIGGER stopped; SELECT pg_advisory_unlock(42); DROP SCHEMA stopped CASCADE")
      yield* target.succeeds(["restore", file])
      assert.strictEqual(yield* target.count("users"), 1)
    }).pipe(Effect.scoped)
  )

  it.live("an export leaves no unfinished file under the requested name", () =>
    Effect.gen(function* () {
      const { cutOffAt, directory, succeeds } = yield* operatorOf(yield* TestDatabase.url)
      for (const name of ["carol", "dora"])
        yield* succeeds(["user", "create", name, "--admin", "--password-stdin"], name)
      yield* succeeds(["user", "create", "alice"])
      const request = yield* succeeds(
        ["export", "request", "alice", "--as", "carol", "--reason", "order", "--json"],
        "carol"
      )
      const id: string = JSON.parse(request).export_id
      yield* succeeds(["export", "approve", id, "--as", "dora", "--reason", "seen"], "dora")
      const file = path.join(directory, "alice.jsonl")
      const read = ["export", "read", id, file, "--as", "carol"]
      assert.match(yield* cutOffAt(read, "contacts", "carol"), /The export could not be written/)
      assert.isFalse(existsSync(file) || existsSync(`${file}.unfinished`))
      yield* succeeds(read, "carol")
      const lines = (yield* Effect.promise(() => fs.readFile(file, "utf8"))).trimEnd().split("\n")
      assert.strictEqual(JSON.parse(lines.at(-1)!).parts, lines.length - 2)
    }).pipe(Effect.scoped)
  )
})
