/**
 * The event log of several nodes, of restarted databases and lost connections.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Context, Deferred, Effect, Exit, Fiber, Layer, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import * as Database from "../src/Database.ts"
import { EventLog, type StreamedEvent } from "../src/EventLog.ts"
import { RoomStore } from "../src/RoomStore.ts"
import { beginning, comparePositions } from "../src/StreamToken.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { follow, idsOf, storedOf } from "./support/LogReads.ts"
import { commitOf, makeEvent, openRoom, store, stores, type Writer } from "./support/TestRoom.ts"

/** A node of its own on the database. */
const node = (url: Redacted.Redacted) =>
  Layer.build(Layer.fresh(stores.pipe(Layer.provideMerge(Database.pool({ url, maxConnections: 4 })))))

/** Another connection to the same database. */
const otherConnection = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const sql = Context.get(yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 2 }))), PgClient.PgClient)
  const waiting = sql<{ pid: number }>`
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`.pipe(
    Effect.map((rows) => rows.map(({ pid }) => pid))
  )
  const hold = Effect.fnUntraced(function* <E>(statement: Effect.Effect<unknown, E>) {
    const begun = yield* Deferred.make<void>()
    const release = yield* Deferred.make<void>()
    const held = yield* Effect.forkChild(
      sql.withTransaction(
        Effect.gen(function* () {
          yield* statement
          yield* Deferred.succeed(begun, undefined)
          yield* Deferred.await(release)
        })
      )
    )
    yield* Effect.raceFirst(Deferred.await(begun), Fiber.join(held))
    return Effect.andThen(Deferred.succeed(release, undefined), Fiber.join(held))
  })
  return {
    /** Waits until so many statements wait for a lock, on other connections than these; gives their connections. */
    untilWaiting: (statements: number, others: ReadonlyArray<number> = []) =>
      Effect.repeat(
        Effect.map(waiting, (pids) => pids.filter((pid) => !others.includes(pid))),
        { until: (pids) => pids.length === statements }
      ),
    endConnections: (pids: ReadonlyArray<number>) =>
      Effect.forEach(pids, (pid) => sql`SELECT pg_terminate_backend(${pid})`, { discard: true }),
    /** Locks the row of the room until the result is run. Commits of the room wait meanwhile, and have their numbers already. */
    holdRoom: ({ roomNid }: Writer) => hold(sql`SELECT 1 FROM rooms WHERE room_nid = ${roomNid} FOR UPDATE`),
    /** Locks a table of the log until the result is run: readers of the log wait meanwhile. */
    holdTable: (table: string) => hold(sql`LOCK TABLE ${sql(table)} IN ACCESS EXCLUSIVE MODE`),
    /** Waits until so many connections listen for notifications of the log that did not before; gives them. */
    untilListening: (nodes: number, others: ReadonlyArray<number> = []) =>
      sql<{ pid: number }>`
        SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
          AND query = 'LISTEN "greenroom_log"'`.pipe(
        Effect.map((rows) => rows.map(({ pid }) => pid).filter((pid) => !others.includes(pid))),
        Effect.repeat({ until: (pids) => pids.length === nodes })
      ),
    /** Opens a transaction with a number, which ends when the result is run. */
    holdTransaction: hold(sql`SELECT pg_current_xact_id()::text`)
  }
})

/** A node, the end of its log, and a transaction of another database of the same PostgreSQL, open until `release` is run. */
const besideOtherDatabase = Effect.gen(function* () {
  const context = yield* node(yield* TestDatabase.url)
  const another = yield* otherConnection(yield* TestDatabase.url)
  const start = yield* Context.get(context, EventLog).currentPosition
  return { context, start, release: yield* another.holdTransaction }
})

describe("EventLog on several nodes", () => {
  /** The events that the follower of a node gets, announcements of other nodes included. `all` completes when there are `total`. */
  const followAt = Effect.fnUntraced(function* (context: Context.Context<EventLog>, total: number) {
    const log = Context.get(context, EventLog)
    log.isFollowed(true)
    const followed: Array<StreamedEvent> = []
    const all = Deferred.makeUnsafe<void>()
    yield* log.follow((slice) =>
      Effect.sync(() => {
        followed.push(...slice.events)
        if (followed.length >= total) Deferred.doneUnsafe(all, Exit.void)
      })
    )
    return { all: Deferred.await(all), followed }
  })

  it.effect("a follower misses no late commit and reads nothing twice", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const nodes = yield* Effect.forEach([1, 2, 3], () => node(url))
      const reader = yield* node(url)
      const roomsOf = yield* Effect.forEach(nodes, (context, index) =>
        Effect.forEach([1, 2, 3, 4], (entry) => openRoom(`node${index}-${entry}`)).pipe(Effect.provide(context))
      )
      const perRoom = 40
      const expected = new Set<EventId>()
      const write = (context: Context.Context<EventLog>, room: Writer) =>
        Effect.gen(function* () {
          const log = yield* EventLog
          const events = Array.from({ length: perRoom }, () => makeEvent(room.roomId))
          for (const event of events) expected.add(event.event_id)
          const commits = yield* Effect.forEach(events, (event) => commitOf(room, [event]))
          // Two at a time: some share a batch, most do not.
          yield* Effect.forEach(commits, log.append, { concurrency: 2, discard: true })
        }).pipe(Effect.provide(context))
      const rooms = roomsOf.flat()
      // Transactions of others that begin early and end late, with numbers of their own.
      const disturb = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        for (let round = 0; round < 60; round++) {
          yield* sql.withTransaction(
            Effect.gen(function* () {
              yield* sql`SELECT 1 FROM rooms WHERE room_nid = ${rooms[(round * 5) % rooms.length]!.roomNid} FOR UPDATE`
              yield* sql`SELECT count(*) FROM events`
              yield* sql`SELECT count(*) FROM rooms`
            })
          )
        }
      }).pipe(Effect.provide(reader))
      const total = rooms.length * perRoom
      const followers = yield* Effect.forEach([...nodes, reader], (context) => followAt(context, total))
      const [{ read }] = yield* Effect.all(
        [
          follow(beginning, 13, total).pipe(Effect.provide(reader)),
          disturb,
          Effect.forEach(
            nodes,
            (context, index) =>
              Effect.forEach(roomsOf[index]!, (room) => write(context, room), { concurrency: "unbounded" }),
            { concurrency: "unbounded" }
          )
        ],
        { concurrency: "unbounded" }
      )
      const seen = (events: ReadonlyArray<StreamedEvent>) =>
        events.map(({ event, position, roomNid }) => ({ event, position, roomNid }))
      for (const { all, followed } of followers) {
        yield* all
        assert.deepStrictEqual(seen(followed), seen(read))
      }
      assert.strictEqual(read.length, total)
      assert.deepStrictEqual(new Set(read.map(({ event }) => event.event_id)), expected)
      for (const [index, { position }] of read.entries()) {
        if (index > 0) assert.isAbove(comparePositions(position, read[index - 1]!.position), 0)
      }
      for (const room of rooms) {
        const depths = read.filter(({ roomNid }) => roomNid === room.roomNid).map(({ event }) => event.depth)
        assert.deepStrictEqual(
          depths,
          depths.toSorted((a, b) => a - b)
        )
      }
    })
  )

  it.effect("of two nodes that believe they own a room only the one that opened it last writes", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [first, second] = yield* Effect.all([node(url), node(url)])
      const old = yield* openRoom("contested").pipe(Effect.provide(first))
      yield* store(old, [makeEvent(old.roomId)]).pipe(Effect.provide(first))
      const owner = yield* openRoom("contested").pipe(Effect.provide(second))
      const refused = yield* Effect.flip(store(old, [makeEvent(old.roomId)])).pipe(Effect.provide(first))
      assert.strictEqual(refused._tag, "StaleWriter")
      yield* store(owner, [makeEvent(owner.roomId)]).pipe(Effect.provide(second))
      const { events } = yield* Context.get(first, EventLog).readAfter(beginning, 10)
      assert.strictEqual(events.length, 2)
    })
  )

  it.effect("nodes know of the epochs that others begin, also of one that began while they were joining", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const { holdTable, untilWaiting } = yield* otherConnection(url)
      const first = yield* node(url)
      const epochOf = (context: Context.Context<EventLog>) => Context.get(context, EventLog).epoch()
      const release = yield* holdTable("session_revocations")
      const joining = yield* Effect.forkChild(node(url))
      // The second node has begun its epoch and looks for the end of the log; the first one reads that epoch.
      yield* untilWaiting(2)
      const pool = yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 1 })))
      const sql = Context.get(pool, SqlClient.SqlClient)
      yield* sql`INSERT INTO log_epochs (epoch, follows_xid, follows_nid, fresh) VALUES ('later', log_xid(), 0, false)`
      yield* release
      const second = yield* Fiber.join(joining)
      assert.strictEqual(epochOf(second), "later")
      yield* Context.get(first, EventLog).caughtUp
      assert.strictEqual(epochOf(first), "later")
    })
  )

  it.live("short-lived values last while a node is there, and an epoch says when they were lost", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const { endConnections, untilListening } = yield* otherConnection(url)
      const pool = yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 2 })))
      const sql = Context.get(pool, PgClient.PgClient)
      const keys = Effect.map(sql<{ key: string }>`SELECT key FROM short_lived`, (rows) => rows.map(({ key }) => key))
      const epochs = Effect.map(sql<{ fresh: boolean }>`SELECT fresh FROM log_epochs ORDER BY xid, nid`, (rows) =>
        rows.map(({ fresh }) => fresh)
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* node(url)
          yield* sql`INSERT INTO short_lived (key, value) VALUES ('typing', '1')`
          yield* node(url)
          assert.deepStrictEqual([yield* keys, yield* epochs], [["typing"], [true, false]])
          const before = yield* untilListening(2)
          yield* endConnections(before)
          const again = yield* untilListening(2, before)
          assert.deepStrictEqual([yield* keys, yield* epochs], [["typing"], [true, false]], "both joined again")
          yield* sql`TRUNCATE short_lived_marker`
          yield* endConnections(again)
          yield* untilListening(2, again)
          assert.deepStrictEqual(
            yield* epochs,
            [true, false, true],
            "after a crash of PostgreSQL one node begins an epoch"
          )
        })
      )
      yield* node(url)
      assert.deepStrictEqual([yield* keys, yield* epochs], [[], [true, false, true, true]], "no node was left")
    })
  )

  it.effect("after a restart of the database the log continues at its last position", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const context = yield* node(url)
      const other = yield* Layer.build(Database.pool({ url, maxConnections: 1 }))
      const sql = Context.get(other, PgClient.PgClient)
      yield* Effect.gen(function* () {
        const log = yield* EventLog
        const room = yield* openRoom("restarted")
        const before = yield* store(room, [makeEvent(room.roomId)])
        yield* sql`
          SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()`
        const opened = yield* Effect.retry(
          Effect.suspend(() => Effect.sandbox(openRoom("restarted"))),
          { times: 10 }
        )
        const after = makeEvent(room.roomId)
        yield* store(opened, [after])
        const { events } = yield* log.readAfter(beginning, 10)
        assert.deepStrictEqual(idsOf(events), [...idsOf(before), after.event_id])
      }).pipe(Effect.provide(context))
    })
  )

  it.effect(
    "a database that was restored into a PostgreSQL which has counted less keeps its order and its tokens",
    () =>
      Effect.gen(function* () {
        const url = yield* TestDatabase.url
        const { old, room } = yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const room = yield* openRoom("restored")
          const old = yield* store(room, [makeEvent(room.roomId), makeEvent(room.roomId)])
          yield* sql`UPDATE events SET xid = (log_xid()::text::bigint + 20000)::text::xid8`
          return { old, room }
        }).pipe(Effect.provide(Layer.fresh(stores.pipe(Layer.provideMerge(Database.pool({ url }))))))
        const after = yield* node(url)
        yield* Effect.gen(function* () {
          const log = yield* EventLog
          const { read, at } = yield* follow(beginning, 100, 2)
          assert.deepStrictEqual(idsOf(read), idsOf(old))
          const [fresh] = yield* store(yield* openRoom("restored"), [makeEvent(room.roomId)])
          assert.deepStrictEqual(idsOf((yield* follow(at, 100, 1)).read), [fresh!.event_id])
          assert.strictEqual((yield* log.readAfter(read[0]!.position, 100)).events.length, 2)
        }).pipe(Effect.provide(after))
      })
  )

  it.effect("no reader passes a running commit, whatever was committed after it; the lag shows for how long", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const { holdRoom, untilWaiting } = yield* otherConnection(url)
      const [first, second] = yield* Effect.all([node(url), node(url)])
      const reader = Context.get(second, EventLog)
      const slow = yield* openRoom("slow").pipe(Effect.provide(first))
      const fast = yield* openRoom("fast").pipe(Effect.provide(second))
      const start = yield* reader.currentPosition
      const release = yield* holdRoom(slow)
      const late = makeEvent(slow.roomId)
      const committing = yield* Effect.forkChild(Effect.provide(store(slow, [late]), first))
      yield* untilWaiting(1)
      const early = makeEvent(fast.roomId)
      yield* store(fast, [early]).pipe(Effect.provide(second))
      const meanwhile = yield* reader.readAfter(start, 100)
      assert.deepStrictEqual(meanwhile.events, [])
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* reader.lag, 3_000)
      yield* release
      yield* Fiber.join(committing)
      const { read } = yield* follow(meanwhile.upTo, 100, 2).pipe(Effect.provide(second))
      assert.deepStrictEqual(idsOf(read), [late.event_id, early.event_id])
      yield* Effect.repeat(reader.lag, { until: (lag) => lag === 0 })
    })
  )

  it.effect("transactions of other databases of the same PostgreSQL delay no reader", () =>
    Effect.gen(function* () {
      const { context, release, start } = yield* besideOtherDatabase
      const read = Effect.gen(function* () {
        const room = yield* openRoom("beside other databases")
        const [event] = yield* store(room, [makeEvent(room.roomId)])
        const log = yield* EventLog
        // Other tests write to the same PostgreSQL. Their transactions that end during a read delay that read alone.
        const slice = yield* log.readAfter(start, 10).pipe(Effect.repeat({ until: ({ events }) => events.length > 0 }))
        assert.deepStrictEqual(idsOf(slice.events), [event!.event_id])
        yield* log.currentPosition.pipe(Effect.repeat({ until: ({ xid }) => xid >= log.lastCommitted() }))
      })
      yield* Effect.ensuring(Effect.provide(read, context), Effect.orDie(release))
    })
  )

  it.effect("a transaction of another database that ends while a reader looks does not send the reader back", () =>
    Effect.gen(function* () {
      const { context, release, start } = yield* besideOtherDatabase
      const read = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const log = yield* EventLog
        const room = yield* openRoom("an end meanwhile")
        yield* store(room, [makeEvent(room.roomId)])
        const { at } = yield* follow(start, 10, 1)
        const look = Effect.gen(function* () {
          yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
          // The snapshot shows the transactions that ran at the first statement; their databases are shown as of now.
          yield* sql`SELECT 1`
          yield* release
          return yield* log.readAfter(at, 10)
        })
        assert.deepStrictEqual((yield* sql.withTransaction(look)).upTo, at)
      })
      yield* Effect.provide(read, context)
    })
  )

  it.effect("a room that is taken over during a commit is opened with the result of the commit", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const { holdRoom, untilWaiting } = yield* otherConnection(url)
      const [first, second] = yield* Effect.all([node(url), node(url)])
      const room = yield* openRoom("taken over").pipe(Effect.provide(first))
      yield* store(room, [makeEvent(room.roomId)]).pipe(Effect.provide(first))
      const release = yield* holdRoom(room)
      const last = makeEvent(room.roomId)
      const committing = yield* Effect.forkChild(Effect.provide(store(room, [last]), first))
      yield* untilWaiting(1)
      const opening = yield* Effect.forkChild(Context.get(second, RoomStore).open(room.roomId))
      yield* untilWaiting(2)
      yield* release
      yield* Fiber.join(committing)
      const opened = yield* Effect.fromOption(yield* Fiber.join(opening))
      assert.deepStrictEqual(
        opened.forwardExtremities.map(({ depth, event_id }) => [event_id, depth]),
        [[last.event_id, last.depth]]
      )
    })
  )

  it.effect("a lost connection fails the commit, and the log continues with the next one", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const { endConnections, holdRoom, untilWaiting } = yield* otherConnection(url)
      const context = yield* node(url)
      const room = yield* openRoom("connection").pipe(Effect.provide(context))
      const release = yield* holdRoom(room)
      const event = makeEvent(room.roomId)
      const committing = yield* Effect.forkChild(Effect.flip(store(room, [event])).pipe(Effect.provide(context)))
      // The log tries once more, each commit by itself.
      const tried = yield* untilWaiting(1)
      yield* endConnections(tried)
      yield* endConnections(yield* untilWaiting(1, tried))
      const error = yield* Fiber.join(committing)
      yield* release
      assert.deepInclude(error, { _tag: "CommitFailed", untouched: false })
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* storedOf([event])).size, 0)
        yield* store(yield* openRoom("connection"), [event])
        assert.strictEqual((yield* storedOf([event])).size, 1)
      }).pipe(Effect.provide(context))
    })
  )
})
