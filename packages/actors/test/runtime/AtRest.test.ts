/** The statements that an idle server with users and rooms sends to the database. */
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as Database from "@greenroom/store/Database"
import * as CuttableDatabase from "@greenroom/store/testing/CuttableDatabase"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer, type Redacted } from "effect"
import { TestClock } from "effect/testing"
import * as HomeServer from "../../src/HomeServer.ts"
import { DelayedEvents } from "../../src/room/DelayedEvents.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import { Sync } from "../../src/sync/Sync.ts"
import { person } from "../TestHomeServer.ts"

const options = {
  serverName: ServerName.make("green.test"),
  dataDir: "unused: the database is given",
  federation: { staticServers: { "red.test": "127.0.0.1:1" } }
}

/** The timeouts of connections follow the real clock, as PostgreSQL does; everything else follows the test clock. */
const start = Effect.fnUntraced(function* (databaseUrl: Redacted.Redacted) {
  const database = yield* TestClock.withLive(Layer.build(Database.exclusiveLayer({ ...options, databaseUrl })))
  return yield* Layer.build(Layer.provideMerge(HomeServer.layerOnDatabase(options), Layer.succeedContext(database)))
})

/** How often a sweep may run in an hour. A statement that is sent more often is polling. */
const sweeps = 7

/** The pool sends this on each connection that it opens. The number of connections depends on how many statements overlap. */
const ofNewConnection = "SELECT 1"

/** A home server, and the statements that it sends to the database by any of its connections. */
const scene = Effect.gen(function* () {
  const url = yield* TestDatabase.url
  const way = yield* CuttableDatabase.make(url)
  const services = yield* start(way.url)
  const other = yield* PgConnection.make({ url })
  /** The statements since the last call. Ends when none is sent while another client gets three answers. */
  const statements = Effect.gen(function* () {
    const all: Array<string> = []
    for (let quiet = 0; quiet < 3; quiet++) {
      yield* other.query("SELECT 1")
      const more = way.takeStatements()
      all.push(...more)
      if (more.length > 0) quiet = 0
    }
    return all
  })
  /** Advances the clock, and gives the statements that were sent meanwhile. */
  const pass = (minutes: number) =>
    Effect.map(
      Effect.forEach(Array.from({ length: minutes }), () => Effect.andThen(TestClock.adjust("1 minute"), statements)),
      (taken) => taken.flat()
    )
  /** Waits until the server has sent nothing for a minute. */
  const settle: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(Effect.orDie(pass(1)), (statements) => (statements.length === 0 ? Effect.void : settle))
  )
  const run = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provideContext(effect, services) as Effect.Effect<A, E>
  return { pass, run, settle, way }
})

/** Two users, one of whom has sent a message that the other has read. */
const people = Effect.gen(function* () {
  const [alice, bob] = [yield* person("alice"), yield* person("bob")]
  const rooms = yield* Rooms
  const { room_id } = yield* rooms.create(alice, { visibility: "public" })
  yield* rooms.join(bob, room_id)
  yield* rooms.send(alice, room_id, "m.room.message", { msgtype: "m.text", body: "hello" })
  yield* (yield* Sync).sync(bob, { timeout: 0 })
  return { alice, room_id }
})

describe("a server at rest", () => {
  it.effect(
    "asks the database for nothing while nothing happens, but for sweeps every ten minutes",
    () =>
      Effect.gen(function* () {
        const { pass, run, settle } = yield* scene
        yield* run(people)
        yield* settle
        const statements = (yield* pass(60)).filter((statement) => statement !== ofNewConnection)
        const often = Object.entries(Object.groupBy(statements, (statement) => statement)).flatMap(
          ([statement, sent = []]) => (sent.length > sweeps ? [`${sent.length} times ${statement}`] : [])
        )
        assert.deepStrictEqual(often, [])
        assert.isAtMost(statements.length, 160)
      }),
    60_000
  )

  it.effect(
    "sends a delayed event at its time",
    () =>
      Effect.gen(function* () {
        const { pass, run, settle } = yield* scene
        const { alice, room_id } = yield* run(people)
        yield* settle
        const delayed = yield* run(DelayedEvents)
        const message = {
          type: "m.room.message",
          stateKey: undefined,
          content: { msgtype: "m.text", body: "late" },
          txnId: undefined
        }
        const delayId = yield* delayed.schedule(alice, { ...message, roomId: room_id, delay: 5 * 60_000 })
        yield* pass(4)
        assert.isUndefined((yield* delayed.find(alice, delayId)).finalisedAt)
        yield* pass(1)
        // The timer may fire a moment before the time of the event. Then the server sets it again.
        for (let looks = 1; (yield* delayed.find(alice, delayId)).eventId === undefined; looks++) {
          if (looks % 50 === 0) yield* TestClock.adjust("1 second")
        }
      }),
    60_000
  )
})
