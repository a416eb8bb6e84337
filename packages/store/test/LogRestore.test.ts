import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import * as Database from "../src/Database.ts"
import { EmbeddedPostgres } from "../src/EmbeddedPostgres.ts"
import { EventLog } from "../src/EventLog.ts"
import { comparePositions, parseToken, type StreamPosition } from "../src/StreamToken.ts"
import { copyDatabase, restoreDump } from "../src/testing/Backup.ts"
import { temporaryDirectory } from "../src/testing/Loopback.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { makeEvent, openRoom, store, stores } from "./support/TestRoom.ts"

/** Runs on a node of its own, which ends with it. */
const onNode = (url: Redacted.Redacted) =>
  Effect.provide(Layer.fresh(stores.pipe(Layer.provideMerge(Database.pool({ url, maxConnections: 4 })))))

/** Sends so many messages; what followers have had then, as a token. */
const send = Effect.fnUntraced(function* (count: number) {
  const log = yield* EventLog
  const room = yield* Effect.retry(Effect.sandbox(Effect.suspend(() => openRoom("restored"))), { times: 20 })
  for (let sent = 0; sent < count; sent++) yield* store(room, [makeEvent(room.roomId)])
  return yield* log.tokenOf(yield* log.currentPosition)
})

const isLost = Effect.fnUntraced(function* (token: string) {
  return yield* (yield* EventLog).isLost(Option.getOrThrow(parseToken(token)))
})

const lastKnown = Effect.fnUntraced(function* (token: string) {
  return yield* (yield* EventLog).lastKnown(Option.getOrThrow(parseToken(token)))
})

const positionOf = (token: string) => Option.getOrThrow(parseToken(token)).position

describe("A log that was restored from a backup", () => {
  it.live("knows tokens from before the backup, and those of the future that was lost for ever", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const { backup, before, lost } = yield* Effect.gen(function* () {
        const before = yield* send(10)
        const backup = yield* copyDatabase(url)
        return { before, backup, lost: yield* send(5) }
      }).pipe(onNode(url))
      const lostLater = yield* send(5).pipe(onNode(url))
      const after = yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* Effect.forEach([before, lost, lostLater], isLost), [false, true, true])
        // A reader that has read up to a lost token has all that the database has of its epoch.
        assert.deepStrictEqual(yield* Effect.forEach([before, lost, lostLater], lastKnown), [
          ...[positionOf(before), positionOf(before), undefined]
        ])
        const after = yield* send(40)
        assert.isAbove(comparePositions(positionOf(after), positionOf(lostLater)), 0)
        assert.deepStrictEqual(yield* Effect.forEach([before, lost, lostLater, after], isLost), [
          ...[false, true, true, false]
        ])
        return after
      }).pipe(onNode(backup))
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* Effect.forEach([before, lost, lostLater, after], isLost), [
          ...[false, true, true, false]
        ])
      }).pipe(onNode(backup))
    })
  )

  it.live("a token of the last row is valid after a restart, though the row was deleted", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const token = yield* Effect.gen(function* () {
        const log = yield* EventLog
        const sql = yield* SqlClient.SqlClient
        yield* send(1)
        const [row] = yield* sql<{ xid: string }>`
          INSERT INTO session_revocations (token_id, user_id, device_id) VALUES (1, '@a:b', 'c') RETURNING xid::text`
        log.committed(Number(row!.xid))
        const token = yield* log.tokenOf(yield* log.currentPosition)
        assert.strictEqual(positionOf(token).xid, Number(row!.xid))
        yield* sql`DELETE FROM session_revocations`
        return token
      }).pipe(onNode(url))
      yield* Effect.gen(function* () {
        assert.isFalse(yield* isLost(token))
      }).pipe(onNode(url))
    })
  )

  it.live("tokens from before there were epochs are good, but not beyond the first epoch", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const pool = yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 2 })))
      const sql = yield* SqlClient.SqlClient.pipe(Effect.provide(pool))
      const [former] = yield* sql<{ xid: string }>`
        INSERT INTO session_revocations (token_id, user_id, device_id) VALUES (1, '@a:b', 'c') RETURNING xid::text`
      yield* Effect.gen(function* () {
        const { xid } = positionOf(yield* send(1))
        const tokens = [`s${former!.xid}_9007199254740991`, `s${former!.xid}_7_00ff_3`, `s${xid}_1`, `s${xid + 9999}_1`]
        assert.deepStrictEqual(yield* Effect.forEach(tokens, isLost), [false, false, true, true])
      }).pipe(onNode(url))
    })
  )

  it.live("tokens of the present epoch are lost beyond the end of the log", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      yield* Effect.gen(function* () {
        const log = yield* EventLog
        const token = Option.getOrThrow(parseToken(yield* send(1)))
        const { nid, xid } = token.position
        const isLostAt = (position: StreamPosition) => log.isLost({ ...token, position })
        const positions = [
          { nid, xid },
          { nid: nid + 1, xid },
          { nid: 1, xid: xid + 9_999 }
        ]
        assert.deepStrictEqual(yield* Effect.forEach(positions, isLostAt), [false, false, true])
      }).pipe(onNode(url))
    })
  )

  it.live(
    "after a dump is restored in a new database cluster, the log continues in order, and earlier tokens are valid",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* temporaryDirectory("restore")
        const url = yield* TestDatabase.url
        const another = yield* EmbeddedPostgres.make({ dataDir, settings: { fsync: "off" } })
        const target = yield* Layer.build(Layer.fresh(Database.migrated({ url: another.url, maxConnections: 2 })))
        const { half, lost, token } = yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* sql`DO ${sql.literal("$$ BEGIN FOR n IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")}`
          const half = yield* send(3)
          const token = yield* send(4)
          yield* restoreDump(sql, yield* SqlClient.SqlClient.pipe(Effect.provide(target)))
          return { half, token, lost: yield* send(2) }
        }).pipe(onNode(url))
        yield* Effect.gen(function* () {
          const log = yield* EventLog
          assert.deepStrictEqual(yield* Effect.forEach([half, token, lost], isLost), [false, false, true])
          const after = yield* send(5)
          assert.isAbove(comparePositions(positionOf(after), positionOf(token)), 0)
          const { events } = yield* log.readAfter(positionOf(half), 100)
          assert.deepStrictEqual(
            events.map(({ event }) => event.content.body),
            events
              .map(({ event }) => event.content.body)
              .toSorted((a, b) => Number(String(a).slice(7)) - Number(String(b).slice(7)))
          )
          assert.lengthOf(events, 4 + 5)
          const sql = yield* SqlClient.SqlClient
          const [offset] = yield* sql<{ value: bigint }>`SELECT value FROM log_offset`
          assert.isAbove(Number(offset!.value), 4_000)
        }).pipe(onNode(another.url))
      })
  )
})
