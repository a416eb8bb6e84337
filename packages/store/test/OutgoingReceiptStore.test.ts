import { assert, layer } from "@effect/vitest"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { DestinationStore } from "../src/DestinationStore.ts"
import { EventLog } from "../src/EventLog.ts"
import { OutgoingReceiptStore } from "../src/OutgoingReceiptStore.ts"
import { ReceiptStore } from "../src/ReceiptStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const green = "green.test" as ServerName
const red = "red.test" as ServerName
const blue = "blue.test" as ServerName
const alice = "@alice:green.test" as UserId
const anna = "@anna:green.test" as UserId

let rooms = 0

/** A room with members of green, red and blue, and a way to give a receipt of a user of green at its n-th event. */
const room = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const receipts = yield* ReceiptStore
  const roomId = `!room${++rooms}:green.test` as RoomId
  const [row] = yield* sql<{ room_nid: bigint }>`
    INSERT INTO rooms (room_id, version, created_at) VALUES (${roomId}, 'test', 0) RETURNING room_nid`
  const roomNid = Number(row!.room_nid)
  const members = { [alice]: "join", "@rob:red.test": "join", "@bob:blue.test": "join", "@eve:gone.test": "leave" }
  for (const [userId, membership] of Object.entries(members)) {
    yield* sql`
      INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
      VALUES (${roomNid}, ${userId}, ${membership}, ${userId}, 0)`
  }
  const read = (userId: UserId, nid: number, threadId?: string) =>
    receipts.publish(
      { roomNid, userId, type: "m.read", threadId, eventId: `$${nid}` as EventId, event: { xid: 1, nid }, ts: nid },
      green
    )
  return { read, roomId }
})

const waitingFor = Effect.fnUntraced(function* (destination: ServerName, roomId: RoomId) {
  const all = yield* (yield* OutgoingReceiptStore).next(destination, 1_000_000)
  return all.filter((receipt) => receipt.roomId === roomId)
})

const idsOf = (receipts: ReadonlyArray<{ readonly eventId: EventId; readonly userId: UserId }>) =>
  receipts.map(({ eventId, userId }) => [userId, eventId])

const tables = Layer.mergeAll(OutgoingReceiptStore.layer, ReceiptStore.layer, DestinationStore.layer).pipe(
  Layer.provideMerge(EventLog.layer),
  Layer.provideMerge(TestDatabase.layer)
)

layer(tables)("OutgoingReceiptStore", (it) => {
  it.effect("the last receipt of each user and thread waits for each other server in the room", () =>
    Effect.gen(function* () {
      const { read, roomId } = yield* room
      assert.deepStrictEqual(yield* read(alice, 1), Option.some([blue, red]))
      yield* read(anna, 1)
      yield* read(alice, 3)
      yield* read(alice, 2, "main")
      assert.deepStrictEqual(yield* read(alice, 2), Option.none())
      for (const destination of [red, blue]) {
        assert.deepStrictEqual(idsOf(yield* waitingFor(destination, roomId)), [
          [anna, "$1"],
          [alice, "$3"],
          [alice, "$2"]
        ])
      }
      for (const destination of [green, "gone.test" as ServerName]) {
        assert.deepStrictEqual(yield* waitingFor(destination, roomId), [])
      }
    })
  )

  it.effect("a receipt that came while the one before it was sent waits still", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingReceiptStore
      const { read, roomId } = yield* room
      yield* read(alice, 1)
      yield* read(anna, 1)
      const sent = yield* waitingFor(red, roomId)
      yield* read(alice, 2)
      yield* store.remove(red, sent)
      assert.deepStrictEqual(idsOf(yield* waitingFor(red, roomId)), [[alice, "$2"]])
      assert.lengthOf(yield* waitingFor(blue, roomId), 2)
    })
  )

  it.effect("a receipt that is being replaced is not removed, and not waited for", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutgoingReceiptStore
      const { read, roomId } = yield* room
      yield* read(alice, 1)
      const sent = yield* waitingFor(red, roomId)
      const outside = yield* Effect.context<never>()
      // Another connection removes it while the transaction holds the row.
      const removal = Effect.promise(() => Effect.runPromiseWith(outside)(store.remove(red, sent)))
      yield* sql.withTransaction(Effect.andThen(read(alice, 2), removal))
      assert.deepStrictEqual(idsOf(yield* waitingFor(red, roomId)), [[alice, "$2"]])
    })
  )

  it.effect("a destination that has been away for days gets no further receipts until it is there again", () =>
    Effect.gen(function* () {
      const destinations = yield* DestinationStore
      const { read, roomId } = yield* room
      for (let attempt = 0; attempt < 20; attempt++) {
        yield* destinations.failed(red, "no answer")
        yield* TestClock.adjust("1 day")
      }
      assert.deepStrictEqual(yield* read(alice, 1), Option.some([blue]))
      yield* destinations.succeeded(red)
      assert.deepStrictEqual(yield* read(alice, 2), Option.some([blue, red]))
      assert.lengthOf(yield* waitingFor(red, roomId), 1)
    })
  )

  it.effect("old receipts and those beyond a bound are dropped, and the waiting destinations are known", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingReceiptStore
      yield* store.trim(Number.MAX_SAFE_INTEGER, 0)
      assert.deepStrictEqual(yield* store.waiting, [])
      const { read, roomId } = yield* room
      for (let thread = 1; thread <= 5; thread++) yield* read(alice, thread, `$${thread}`)
      assert.strictEqual(yield* store.trim(0, 3), 4)
      assert.deepStrictEqual(idsOf(yield* waitingFor(red, roomId)), [
        [alice, "$3"],
        [alice, "$4"],
        [alice, "$5"]
      ])
      assert.strictEqual(yield* store.trim(5, 3), 4)
      assert.deepStrictEqual(idsOf(yield* waitingFor(blue, roomId)), [[alice, "$5"]])
      assert.sameMembers(
        (yield* store.waiting).map(({ destination }) => destination),
        [red, blue]
      )
    })
  )
})
