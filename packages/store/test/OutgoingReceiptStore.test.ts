import { assert, layer } from "@effect/vitest"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { DestinationStore } from "../src/DestinationStore.ts"
import { EventLog } from "../src/EventLog.ts"
import { OutgoingReceiptStore } from "../src/OutgoingReceiptStore.ts"
import type { ReceiptType } from "../src/ReceiptChange.ts"
import { ReceiptStore } from "../src/ReceiptStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const green = "green.test" as ServerName
const red = "red.test" as ServerName
const blue = "blue.test" as ServerName
const alice = "@alice:green.test" as UserId
const anna = "@anna:green.test" as UserId

let rooms = 0

/** A room with members of green, red and blue, and a way to give a receipt of a user at its n-th event. */
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
  const read = (userId: UserId, nid: number, threadId?: string, type: ReceiptType = "m.read") =>
    receipts.set({ roomNid, userId, type, threadId, eventId: `$${nid}` as EventId, event: { xid: 1, nid }, ts: nid })
  return { read, roomId, roomNid }
})

/** Queues the rooms with new receipts, as the one node does it. Returns the servers of each. */
const queue = Effect.gen(function* () {
  const store = yield* OutgoingReceiptStore
  const { progress, roomNids, upTo } = yield* store.changed(undefined, green)
  return yield* store.queue(
    roomNids.map((roomNid) => ({ roomNid, after: progress })),
    upTo,
    green
  )
})

const readFor = Effect.fnUntraced(function* (destination: ServerName) {
  return yield* (yield* OutgoingReceiptStore).next(destination, 1_000, green)
})

const waitingFor = Effect.fnUntraced(function* (destination: ServerName, roomId: RoomId) {
  return (yield* readFor(destination)).receipts.filter((receipt) => receipt.roomId === roomId)
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
      const { read, roomId, roomNid } = yield* room
      yield* read(alice, 1)
      assert.sameMembers([...(yield* queue).get(roomNid)!], [blue, red])
      yield* read(anna, 1)
      yield* read(alice, 3)
      yield* read(alice, 2, "main")
      yield* read(alice, 4, undefined, "m.read.private")
      yield* read("@rob:red.test" as UserId, 4)
      assert.isFalse(yield* read(alice, 2))
      yield* queue
      for (const destination of [red, blue]) {
        assert.deepStrictEqual(idsOf(yield* waitingFor(destination, roomId)), [
          [anna, "$1"],
          [alice, "$3"],
          [alice, "$2"]
        ])
      }
      for (const destination of [green, "gone.test" as ServerName]) {
        assert.deepStrictEqual(yield* readFor(destination), { receipts: [], rooms: [], more: false })
      }
    })
  )

  it.effect("however many users have read, one row waits for a server in a room", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { read, roomId, roomNid } = yield* room
      for (let user = 0; user < 30; user++) yield* read(`@user${user}:green.test` as UserId, 1)
      yield* queue
      yield* read(alice, 1)
      yield* queue
      const [row] = yield* sql<{ count: bigint }>`SELECT count(*) FROM outgoing_receipts WHERE room_nid = ${roomNid}`
      assert.strictEqual(Number(row!.count), 2)
      assert.lengthOf(yield* waitingFor(red, roomId), 31)
    })
  )

  it.effect("a receipt of a transaction that ends late is found", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { read, roomId, roomNid } = yield* room
      const outside = yield* Effect.context<OutgoingReceiptStore | ReceiptStore>()
      const elsewhere = <A, E>(effect: Effect.Effect<A, E, OutgoingReceiptStore | ReceiptStore>) =>
        Effect.promise(() => Effect.runPromiseWith(outside)(effect as Effect.Effect<A, never, OutgoingReceiptStore>))
      yield* queue
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* read(alice, 1)
          // Another connection commits a later one meanwhile, and queues what can be read.
          yield* elsewhere(read(anna, 1))
          assert.isUndefined((yield* elsewhere(queue)).get(roomNid))
        })
      )
      yield* queue
      assert.deepStrictEqual(idsOf(yield* waitingFor(red, roomId)), [
        [alice, "$1"],
        [anna, "$1"]
      ])
    })
  )

  it.effect("a room that got a receipt while the ones before were sent waits still", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingReceiptStore
      const { read, roomId } = yield* room
      yield* read(alice, 1)
      yield* queue
      const sent = yield* readFor(red)
      yield* read(alice, 2)
      yield* queue
      yield* store.acknowledge(red, sent.rooms)
      assert.deepStrictEqual(idsOf(yield* waitingFor(red, roomId)), [[alice, "$2"]])
      yield* store.acknowledge(red, (yield* readFor(red)).rooms)
      assert.deepStrictEqual(yield* waitingFor(red, roomId), [])
      assert.lengthOf(yield* waitingFor(blue, roomId), 1)
    })
  )

  it.effect("a room that gets a receipt now is not removed, and not waited for", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutgoingReceiptStore
      const { read, roomId } = yield* room
      yield* read(alice, 1)
      yield* queue
      const sent = yield* readFor(red)
      const outside = yield* Effect.context<never>()
      yield* read(alice, 2)
      // Another connection removes the row while the transaction holds it.
      const removal = Effect.promise(() => Effect.runPromiseWith(outside)(store.acknowledge(red, sent.rooms)))
      yield* sql.withTransaction(Effect.andThen(queue, removal))
      assert.deepStrictEqual(idsOf(yield* waitingFor(red, roomId)), [[alice, "$2"]])
    })
  )

  it.effect("many receipts are read in parts", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingReceiptStore
      yield* store.trim(Number.MAX_SAFE_INTEGER)
      const first = yield* room
      const second = yield* room
      for (let thread = 1; thread <= 3; thread++) yield* first.read(alice, thread, `$${thread}`)
      yield* queue
      for (let thread = 4; thread <= 6; thread++) yield* second.read(alice, thread, `$${thread}`)
      yield* queue
      const parts: Array<ReadonlyArray<string>> = []
      for (let more = true; more; ) {
        const part = yield* store.next(red, 2, green)
        parts.push(part.receipts.map(({ eventId }) => eventId))
        yield* store.acknowledge(red, part.rooms)
        more = part.more
      }
      assert.deepStrictEqual(parts.flat(), ["$1", "$2", "$3", "$4", "$5", "$6"])
      assert.isTrue(parts.every((part) => part.length <= 2))
      assert.deepStrictEqual(yield* readFor(red), { receipts: [], rooms: [], more: false })
    })
  )

  it.effect("a server that has left the room gets no receipts", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* OutgoingReceiptStore
      const { read, roomId, roomNid } = yield* room
      yield* read(alice, 1)
      yield* queue
      yield* sql`UPDATE memberships SET membership = 'leave' WHERE room_nid = ${roomNid} AND user_id = '@rob:red.test'`
      assert.deepStrictEqual(yield* waitingFor(red, roomId), [])
      yield* store.acknowledge(red, (yield* readFor(red)).rooms)
      const left = yield* sql`SELECT FROM outgoing_receipts WHERE room_nid = ${roomNid} AND destination = ${red}`
      assert.lengthOf(left, 0)
    })
  )

  it.effect("a destination that has been away for days gets no further receipts until it is there again", () =>
    Effect.gen(function* () {
      const destinations = yield* DestinationStore
      const { read, roomId, roomNid } = yield* room
      for (let attempt = 0; attempt < 20; attempt++) {
        yield* destinations.failed(red, "no answer")
        yield* TestClock.adjust("1 day")
      }
      yield* read(alice, 1)
      assert.deepStrictEqual((yield* queue).get(roomNid), [blue])
      yield* destinations.succeeded(red)
      yield* read(alice, 2)
      assert.sameMembers([...(yield* queue).get(roomNid)!], [blue, red])
      assert.lengthOf(yield* waitingFor(red, roomId), 1)
    })
  )

  it.effect("old rooms are dropped, and the waiting destinations are known", () =>
    Effect.gen(function* () {
      const store = yield* OutgoingReceiptStore
      yield* store.trim(Number.MAX_SAFE_INTEGER)
      assert.deepStrictEqual(yield* store.waiting, [])
      const first = yield* room
      const second = yield* room
      yield* first.read(alice, 1)
      yield* queue
      yield* TestClock.adjust("1 minute")
      yield* second.read(alice, 2)
      yield* queue
      yield* store.trim(yield* Clock.currentTimeMillis)
      assert.deepStrictEqual(yield* waitingFor(blue, first.roomId), [])
      assert.lengthOf(yield* waitingFor(blue, second.roomId), 1)
      assert.sameMembers(
        (yield* store.waiting).map(({ destination }) => destination),
        [red, blue]
      )
    })
  )
})
