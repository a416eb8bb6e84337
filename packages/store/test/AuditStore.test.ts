import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { AuditStore } from "../src/AuditStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

/** Makes PostgreSQL refuse rows of actions that match, until `allow`. */
const refuse = (pattern: string) =>
  SqlClient.SqlClient.use((sql) =>
    Effect.andThen(
      sql.unsafe(`
        CREATE OR REPLACE FUNCTION refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.action LIKE '${pattern}' THEN RAISE 'no space' USING ERRCODE = '53100'; END IF;
          RETURN NEW;
        END $$`),
      sql`CREATE TRIGGER refuse BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_row()`
    )
  )
const allow = SqlClient.SqlClient.use((sql) => sql`DROP TRIGGER refuse ON audit_log`)

layer(AuditStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("AuditStore", (it) => {
  /** The rows about a target, the oldest first. */
  const rowsOf = (target: string) =>
    AuditStore.use((store) =>
      Effect.map(store.list({ limit: 10, target }), (rows) =>
        rows.toReversed().map(({ action, actor, details, reason }) => ({ actor, action, reason, details }))
      )
    )
  const rowOf = (target: string) =>
    AuditStore.use((store) => Effect.map(store.list({ limit: 10, target }), (rows) => rows.at(-1)!.seq))
  const entry = (target: string) => ({ actor: "@boss:green.test", action: "room.delete", target, reason: "spam" })
  const begun = { actor: "@boss:green.test", action: "room.delete", reason: "spam", details: {} }
  const failed = { actor: "@boss:green.test", action: "room.delete.failed" }

  it.effect("an action that succeeds has one row, and one that fails a second one, with the error", () =>
    Effect.gen(function* () {
      const store = yield* AuditStore
      assert.strictEqual(yield* store.run(entry("!a"), Effect.succeed(1)), 1)
      assert.deepStrictEqual(yield* rowsOf("!a"), [begun])

      const refusal = { _tag: "M_NOT_FOUND", error: "There is no such room" }
      assert.strictEqual(yield* Effect.flip(store.run(entry("!b"), Effect.fail(refusal))), refusal)
      const details = { row: yield* rowOf("!b"), errcode: "M_NOT_FOUND" }
      assert.deepStrictEqual(yield* rowsOf("!b"), [begun, { ...failed, reason: refusal.error, details }])

      yield* Effect.exit(store.run(entry("!c"), Effect.fail(new Error("--days must be at least 1"))))
      assert.deepInclude((yield* rowsOf("!c"))[1], { ...failed, reason: "--days must be at least 1" })
      assert.deepStrictEqual((yield* store.verify([])).problems, [])
    })
  )

  it.effect("a defect or an interruption is recorded without its text", () =>
    Effect.gen(function* () {
      const store = yield* AuditStore
      yield* Effect.exit(store.run(entry("!defect"), Effect.die(new Error("password: hush"))))
      const details = { row: yield* rowOf("!defect") }
      assert.deepStrictEqual(yield* rowsOf("!defect"), [begun, { ...failed, reason: "Internal error", details }])

      const running = yield* Effect.forkChild(store.run(entry("!stopped"), Effect.never))
      yield* Effect.repeat(rowsOf("!stopped"), { until: (rows) => rows.length === 1 })
      yield* Fiber.interrupt(running)
      assert.deepInclude((yield* rowsOf("!stopped"))[1], { ...failed, reason: "Interrupted" })
    })
  )

  it.effect("a stream that outlasts its action has a row if it fails or is interrupted, and none if it ends", () =>
    Effect.gen(function* () {
      const store = yield* AuditStore
      const streamOf = <A, E>(target: string, stream: Stream.Stream<A, E>) =>
        store.run(entry(target), store.following(stream))
      yield* Stream.runDrain(yield* streamOf("!ended", Stream.make(1, 2)))
      assert.deepStrictEqual(yield* rowsOf("!ended"), [begun])
      const failing = Stream.concat(Stream.make(1), Stream.fail({ error: "no space" }))
      yield* Effect.exit(Stream.runDrain(yield* streamOf("!failing", failing)))
      assert.deepInclude((yield* rowsOf("!failing"))[1], { ...failed, reason: "no space" })
      const running = yield* Effect.forkChild(Stream.runDrain(yield* streamOf("!left", Stream.never)), {
        startImmediately: true
      })
      yield* Fiber.interrupt(running)
      assert.deepInclude((yield* rowsOf("!left"))[1], { ...failed, reason: "Interrupted" })
    })
  )

  it.effect("a row that somebody has changed into no JSON is listed all the same", () =>
    Effect.gen(function* () {
      const store = yield* AuditStore
      const sql = yield* SqlClient.SqlClient
      yield* store.run(entry("!changed"), Effect.void)
      yield* sql`UPDATE audit_log SET reason = 'no JSON', details = 'none' WHERE target = '!changed'`
      const changed = { ...begun, reason: "no JSON", details: { changed: "none" } }
      assert.deepStrictEqual(yield* rowsOf("!changed"), [changed])
      assert.deepStrictEqual((yield* store.verify([])).problems, [`row ${yield* rowOf("!changed")} was changed`])
      yield* sql`UPDATE audit_log SET reason = '"spam"', details = '{}' WHERE target = '!changed'`
      assert.deepStrictEqual((yield* store.verify([])).problems, [])
    })
  )

  it.effect("an action that cannot be recorded does not run", () =>
    Effect.gen(function* () {
      const store = yield* AuditStore
      yield* refuse("room.delete")
      let ran = false
      const action = Effect.sync(() => {
        ran = true
      })
      assert.strictEqual((yield* Effect.exit(store.run(entry("!full"), action)))._tag, "Failure")
      yield* allow
      assert.isFalse(ran)
      assert.isEmpty(yield* rowsOf("!full"))
    })
  )

  it.effect("a failure that the database does not take is recorded when it takes rows again", () =>
    Effect.gen(function* () {
      const store = yield* AuditStore
      yield* refuse("%.failed")
      const exit = yield* Effect.exit(store.run(entry("!later"), Effect.fail({ error: "no" })))
      assert.strictEqual(exit._tag, "Failure")
      assert.deepStrictEqual(yield* rowsOf("!later"), [begun])
      yield* allow
      yield* Effect.repeat(Effect.andThen(TestClock.adjust("5 seconds"), rowsOf("!later")), {
        until: (rows) => rows.length > 1
      })
      assert.deepInclude((yield* rowsOf("!later"))[1], { ...failed, reason: "no" })
    })
  )
})
