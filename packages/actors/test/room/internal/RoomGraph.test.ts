import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { formatUserId, ServerName } from "@greenroom/protocol/Identifiers"
import { draftRoomVersion } from "@greenroom/room/DraftRoomVersion"
import type { EventProposal } from "@greenroom/room/RoomVersion"
import { generateSigningKey } from "@greenroom/room/Signing"
import { Deferred, Effect, Fiber, Result } from "effect"
import { SqlClient } from "effect/sql"
import { Room } from "../../../src/room/RoomProtocol.ts"
import { Rooms } from "../../../src/room/Rooms.ts"
import { guest, layer as homeServer } from "../../TestHomeServer.ts"
import { carol as member, remoteMembers } from "../RemoteMembers.ts"

const red = ServerName.make("red.test")
const carol = formatUserId("carol", red)

layer(homeServer, { excludeTestServices: true })("RoomGraph", (it) => {
  it.effect("an event that follows a queued one waits until that one is stored", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, { visibility: "public" })
      const [held, letGo] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const holding = yield* Effect.forkChild(
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`SELECT 1 FROM rooms WHERE room_id = ${room_id} FOR UPDATE`
            yield* Deferred.succeed(held, undefined)
            yield* Deferred.await(letGo)
          })
        )
      )
      yield* Deferred.await(held)
      const say = Effect.forkChild(rooms.send(alice, room_id, "m.room.message", { msgtype: "m.text", body: "hi" }), {
        startImmediately: true
      })
      const room = (yield* Room.client)(room_id)
      const first = yield* say
      const { event } = yield* room.MakeMembership({ handshake: "join", userId: carol })
      const join = Result.getOrThrow(draftRoomVersion.complete(event, generateSigningKey(red, "ed25519:1"), Date.now()))
      const others = yield* Effect.forEach(Array.from({ length: 10 }), () => say)
      const joining = yield* Effect.forkChild(room.SendMembership({ origin: red, handshake: "join", event: join }), {
        startImmediately: true
      })
      // Time enough for the join to look for what it follows.
      for (let look = 0; look < 20; look++) yield* sql`SELECT 1`
      yield* Deferred.succeed(letGo, undefined)
      yield* Fiber.join(holding)
      yield* Effect.forEach([first, ...others], Fiber.join, { discard: true })
      const { state } = yield* Fiber.join(joining)
      assert.isTrue(state.some(({ type }) => type === "m.room.create"))
    })
  )

  it.effect("an event of another server gets its place while the room's own members never pause", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, { visibility: "public" })
      const room = (yield* Room.client)(room_id)
      const { event } = yield* room.MakeMembership({ handshake: "join", userId: carol })
      const join = Result.getOrThrow(draftRoomVersion.complete(event, generateSigningKey(red, "ed25519:1"), Date.now()))
      const say = rooms.send(alice, room_id, "m.room.message", { msgtype: "m.text", body: "on and on" })
      // The predecessor of the join has left the actor's memory, so that placing it takes longer than a message does.
      yield* Effect.forEach(Array.from({ length: 20 }), () => say)
      const members = yield* Effect.forEach(Array.from({ length: 30 }), () => Effect.forkChild(Effect.forever(say)))
      const { state } = yield* room.SendMembership({ origin: red, handshake: "join", event: join })
      yield* Effect.forEach(members, Fiber.interrupt, { discard: true })
      assert.isTrue(state.some(({ type }) => type === "m.room.create"))
    })
  )

  it.effect("an event that follows refused ones follows the forward extremities before these", () =>
    Effect.gen(function* () {
      for (const id of ["2", "11", "12"]) {
        const { followed, make, message, receive } = yield* remoteMembers(id)
        const refused = { type: "m.room.name", state_key: "", sender: member, content: { name: "mine" } }
        const first = make(refused, [message])
        const second = make(refused, [first])
        const last = make({ type: "m.room.message", sender: member, content: message.content }, [second])
        const refusals = yield* Effect.forEach([message, first, second, last], receive)
        assert.deepStrictEqual(
          refusals.map(({ error, refusal }) => (error ?? refusal) !== undefined),
          [false, true, true, false]
        )
        assert.deepStrictEqual(yield* followed, [last.event_id])
      }
    })
  )

  /** Makes refused events: the sender may not set the name of the room. */
  const refusals = (make: (proposal: Omit<EventProposal, "room_id">, follows: ReadonlyArray<Event>) => Event) => {
    let made = 0
    return (...follows: ReadonlyArray<Event>): Event =>
      make({ type: "m.room.name", state_key: "", sender: member, content: { name: `${made++}` } }, follows)
  }

  it.effect("of refused events in a row, 20 are passed on the way to the forward extremities", () =>
    Effect.gen(function* () {
      for (const { count, isPassed } of [
        { count: 20, isPassed: true },
        { count: 21, isPassed: false }
      ]) {
        const { followed, make, message, receiveAll } = yield* remoteMembers("11")
        const refused = refusals(make)
        const events = [message]
        for (let index = 0; index < count; index++) events.push(refused(events.at(-1)!))
        const last = make({ type: "m.room.message", sender: member, content: message.content }, events.slice(-1))
        yield* receiveAll([...events, last])
        assert.sameMembers([...(yield* followed)], isPassed ? [last.event_id] : [message.event_id, last.event_id])
      }
    })
  )

  /**
   * Forward extremities, and an event that follows them by way of refused ones: each of the extremities by one of its own, which has 20
   * predecessors. `shared`: all of these have 19 predecessors in common. Returns how many forward extremities are left.
   */
  const afterRefused = Effect.fnUntraced(function* (shared: boolean) {
    const { followed, make, message, receiveAll } = yield* remoteMembers("11")
    const refused = refusals(make)
    const say = (body: string, follows: ReadonlyArray<Event>) =>
      make({ type: "m.room.message", sender: member, content: { ...message.content, body } }, follows)
    const extremities = Array.from({ length: 52 }, (_, index) => say(`${index}`, [message]))
    const common = Array.from({ length: 19 }, () => refused(message))
    const before = extremities.map((extremity) => [
      ...(shared ? common : Array.from({ length: 19 }, () => refused(extremity))),
      refused(extremity)
    ])
    const between = before.map((events) => refused(...events))
    const behind = [between.slice(0, 18), between.slice(18, 36), between.slice(36)].map((events) => refused(...events))
    const last = say("last", behind)
    yield* receiveAll([message, ...extremities])
    yield* receiveAll([...new Set(before.flat())])
    yield* receiveAll([...between, ...behind, last])
    const after = yield* followed
    assert.include(after, last.event_id)
    return after.length
  })

  it.effect("1,000 predecessors of refused events are read at once, each of them once", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* afterRefused(true), 1)
      assert.isAbove(yield* afterRefused(false), 1)
    })
  )
})
