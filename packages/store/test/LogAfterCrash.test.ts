/**
 * The event log after a crash of PostgreSQL, which loses the last transactions that did not wait for the disk, and gives their numbers
 * again.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Context, Effect, Layer, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import * as Database from "../src/Database.ts"
import { EventLog } from "../src/EventLog.ts"
import { asynchronousCommit } from "../src/internal/asynchronousCommit.ts"
import * as Loopback from "../src/testing/Loopback.ts"
import { commitOf, makeEvent, openRoom, store, stores } from "./support/TestRoom.ts"

describe("EventLog after a crash of PostgreSQL", () => {
  it.live(
    "followers get the events of transactions whose numbers were read before",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* Loopback.temporaryDirectory("store")
        const context = yield* Layer.build(
          stores.pipe(Layer.provideMerge(Database.exclusiveLayer({ dataDir, maxConnections: 4 })))
        )
        const sql = Context.get(context, SqlClient.SqlClient)
        yield* Effect.gen(function* () {
          const log = yield* EventLog
          const seen: Array<Event> = []
          yield* log.follow(({ events }) => Effect.sync(() => seen.push(...events.map(({ event }) => event))))
          const room = yield* openRoom("crashed")
          const [before] = yield* store(room, [makeEvent(room.roomId)])
          yield* log.settled
          const commit = yield* commitOf(room, [makeEvent(room.roomId)])
          const [walwriter] = yield* sql<{
            pid: number
          }>`SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'`
          process.kill(walwriter!.pid, "SIGSTOP")
          const withoutWaiting = Effect.map(
            sql<{ xid: string }>`
              WITH ${asynchronousCommit(sql)}
              INSERT INTO server_settings SELECT 'written ' || log_xid(), '' FROM asynchronous_commit
              RETURNING log_xid()::text AS xid`,
            ([row]) => Number(row!.xid)
          )
          const written = yield* Effect.replicateEffect(withoutWaiting, 100)
          for (const xid of written) log.wroteNothing(xid)
          const lost = written.at(-1)!
          yield* log.reached(lost)
          process.kill(walwriter!.pid, "SIGKILL")
          const kept = sql`SELECT 1 FROM server_settings WHERE name LIKE 'written %'`
          yield* Effect.sandbox(kept).pipe(
            Effect.repeat({ until: (rows) => rows.length < 10, schedule: Schedule.spaced("20 millis") }),
            Effect.retry(Schedule.spaced("20 millis"))
          )
          const after = yield* Effect.retry(
            Effect.suspend(() => Effect.sandbox(Effect.as(log.append(commit), commit.events[0]!.event))),
            { schedule: Schedule.spaced("20 millis"), times: 100 }
          )
          yield* Effect.sleep("20 millis").pipe(
            Effect.repeat({ until: () => seen.length === 2 }),
            Effect.timeoutOption("5 seconds")
          )
          assert.deepStrictEqual(
            seen.map(({ event_id }) => event_id),
            [before!.event_id, after.event_id]
          )
        }).pipe(Effect.provide(context))
      }),
    60_000
  )
})
