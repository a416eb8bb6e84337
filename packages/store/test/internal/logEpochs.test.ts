/**
 * The epochs of the log as one node knows them. `LogRestore.test.ts` has what becomes of tokens when a backup is restored.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { nextOfEnded } from "../../src/internal/logEdge.ts"
import { LogEpochs } from "../../src/internal/logEpochs.ts"
import { positionOf } from "../../src/internal/positionSql.ts"
import { logEpochs } from "../../src/LogEpoch.ts"
import { ofKind } from "../../src/LogKind.ts"
import { endOfTransaction, positionBefore, type StreamPosition } from "../../src/StreamToken.ts"
import * as TestDatabase from "../../src/testing/TestDatabase.ts"

/** A node that has begun an epoch, and the position of its row. */
const begun = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const epochs = new LogEpochs(sql)
  yield* epochs.begin({ fresh: false })
  const [row] = yield* sql<{ xid: string; nid: bigint }>`
    SELECT xid::text AS xid, nid FROM log_epochs WHERE epoch = ${epochs.current}`
  return { epochs, name: epochs.current, position: positionOf(row!) }
})

/** A slice of the log with the row of an epoch alone. */
const sliceOf = (epoch: string, position: StreamPosition) => ({
  events: [],
  memberships: [],
  rows: ofKind(logEpochs, [{ position, row: { epoch, fresh: false } }]),
  last: position,
  upTo: position,
  complete: true
})

layer(TestDatabase.layer)("LogEpochs", (it) => {
  it.effect("the newest epoch counts, whatever the order in which a node reads them", () =>
    Effect.gen(function* () {
      const [earlier, later] = [yield* begun, yield* begun]
      earlier.epochs.read(sliceOf(later.name, later.position))
      assert.strictEqual(earlier.epochs.current, later.name)
      earlier.epochs.read(sliceOf(earlier.name, earlier.position))
      later.epochs.read(sliceOf(earlier.name, earlier.position))
      assert.deepStrictEqual([earlier.epochs.current, later.epochs.current], [later.name, later.name])
    })
  )

  it.effect("a token of a position that the node has not read has the newest epoch of the database", () =>
    Effect.gen(function* () {
      const [own, ofOther] = [yield* begun, yield* begun]
      const at = positionBefore(ofOther.position)
      const names = yield* Effect.forEach([at, ofOther.position], (position) => own.epochs.of(position, at))
      assert.deepStrictEqual(names, [own.name, ofOther.name])
    })
  )

  it.effect("a token of a transaction that ended is valid though the node has not read it; the next one is lost", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { epochs, name, position } = yield* begun
      const reached = endOfTransaction(position.xid - 1)
      const look = Effect.gen(function* () {
        // Other tests write to the same PostgreSQL: the snapshot holds the number of the next transaction.
        yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
        const next = yield* nextOfEnded(sql)
        assert.isAbove(next, position.xid)
        return yield* Effect.forEach([next - 1, next], (xid) =>
          epochs.isLost({ epoch: name, position: { xid, nid: 1 } }, reached)
        )
      })
      assert.deepStrictEqual(yield* sql.withTransaction(look), [false, true])
    })
  )
})
