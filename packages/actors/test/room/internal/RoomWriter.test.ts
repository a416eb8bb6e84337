import { assert, layer } from "@effect/vitest"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { CommitFailed } from "@greenroom/store/EventLog"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Deferred, Effect, Fiber } from "effect"
import { Entity } from "effect/cluster"
import { makeRoomWriter } from "../../../src/room/internal/RoomWriter.ts"
import { Rooms } from "../../../src/room/Rooms.ts"
import { guest, layer as homeServer } from "../../TestHomeServer.ts"

/** A writer that learns late that it has opened the room for the first time. */
const slowWriter = Effect.fnUntraced(function* (roomId: RoomId) {
  const rooms = yield* RoomStore
  const [opened, tell] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const open: typeof rooms.open = (id) =>
    Effect.tap(rooms.open(id), () =>
      Effect.flatMap(Deferred.succeed(opened, undefined), (isFirst) => (isFirst ? Deferred.await(tell) : Effect.void))
    )
  const writer = yield* makeRoomWriter.pipe(
    Effect.provideService(Entity.CurrentAddress, { entityId: roomId } as never),
    Effect.provideService(RoomStore, { ...rooms, open })
  )
  return { writer, opened: Deferred.await(opened), tell: Deferred.succeed(tell, undefined) }
})

const writerOf = (roomId: RoomId) =>
  Effect.provideService(makeRoomWriter, Entity.CurrentAddress, { entityId: roomId } as never)

layer(homeServer, { excludeTestServices: true })("RoomWriter", (it) => {
  it.effect("a room that was evicted while it was loaded does not replace the one in memory", () =>
    Effect.gen(function* () {
      const { room_id } = yield* (yield* Rooms).create(guest("alice"), {})
      const { opened, tell, writer } = yield* slowWriter(room_id)
      const first = yield* Effect.forkChild(writer.load)
      yield* opened
      yield* writer.forget
      const second = yield* writer.load
      yield* tell
      yield* Fiber.join(first)
      // Another writer takes the room: this one must see it, and open the room again.
      yield* (yield* RoomStore).open(room_id)
      const nothing = Effect.flatMap(writer.load, (room) => writer.log.append(room.commit(room.beginStep())))
      yield* writer.durably(nothing, true)
      assert.isAbove((yield* writer.load).fence, second.fence + 1)
    })
  )

  it.effect("a request whose commit may have been stored runs again only if its transaction ID shows a repeat", () =>
    Effect.gen(function* () {
      const { room_id } = yield* (yield* Rooms).create(guest("alice"), {})
      const writer = yield* writerOf(room_id)
      const runs = Effect.fnUntraced(function* (repeatable: boolean) {
        const { fence } = yield* writer.load
        let count = 0
        const lost = Effect.suspend(() => {
          count++
          return Effect.fail(
            new CommitFailed({ roomId: room_id, fence, cause: "the answer was lost", untouched: false })
          )
        })
        yield* Effect.exit(writer.durably(lost, repeatable))
        return count
      })
      assert.strictEqual(yield* runs(false), 1)
      assert.isAbove(yield* runs(true), 1)
    })
  )

  it.effect("commits that failed together open the room again once, and a defect opens it again", () =>
    Effect.gen(function* () {
      const { room_id } = yield* (yield* Rooms).create(guest("alice"), {})
      const writer = yield* writerOf(room_id)
      const { fence } = yield* writer.load
      const reopened = Effect.suspend(() => {
        let isFirst = true
        const request = Effect.gen(function* () {
          if (!isFirst) return yield* writer.load
          isFirst = false
          return yield* new CommitFailed({ roomId: room_id, fence, cause: "another failed", untouched: true })
        })
        return Effect.map(writer.durably(request, false), (room) => room.fence)
      })
      const after = yield* reopened
      assert.isAbove(after, fence)
      assert.strictEqual(yield* reopened, after)
      yield* Effect.exit(writer.durably(Effect.die("a fault"), false))
      assert.isAbove((yield* writer.load).fence, after)
    })
  )

  it.effect("no step is taken while a request has the room exclusively, also if it waited for numbers before", () =>
    Effect.gen(function* () {
      const { room_id } = yield* (yield* Rooms).create(guest("alice"), {})
      const writer = yield* writerOf(room_id)
      const order: Array<string> = []
      // More numbers than are reserved.
      const count = 20_000
      const step = yield* Effect.forkChild(
        writer.takeStep(count, () => order.push("step")),
        { startImmediately: true }
      )
      const exclusively = writer
        .withNids(count, () => 0)
        .pipe(
          Effect.andThen(Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))),
          Effect.andThen(Effect.sync(() => order.push("exclusive")))
        )
      yield* writer.alone(exclusively)
      yield* Fiber.join(step)
      assert.deepStrictEqual(order, ["exclusive", "step"])
    })
  )

  it.effect("an answer that the writer before stored until the room was opened is given to a repeat", () =>
    Effect.gen(function* () {
      const { room_id } = yield* (yield* Rooms).create(guest("alice"), {})
      const rooms = yield* RoomStore
      const transaction = { tokenId: 7, txnId: "1", kind: "send" }
      const former = yield* writerOf(room_id)
      yield* former.load
      const commit = Effect.flatMap(former.load, (room) => {
        const row = former.transactions.row(transaction, room_id, { event_id: "$first" })
        return former.log.append(room.commit(room.beginStep(), { transactions: [row] }))
      })
      const open: typeof rooms.open = (id) => Effect.andThen(Effect.orDie(commit), rooms.open(id))
      const writer = yield* Effect.provideService(writerOf(room_id), RoomStore, { ...rooms, open })
      const again = Effect.as(writer.load, { event_id: "$second" })
      assert.deepStrictEqual(yield* writer.transactions.once(transaction, again), { event_id: "$first" })
    })
  )
})
