import { assert, layer } from "@effect/vitest"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "../src/EventLog.ts"
import { RoomStore } from "../src/RoomStore.ts"
import { endOfTransaction } from "../src/StreamToken.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import {
  alice,
  bob,
  commitOf,
  makeEvent,
  memberEvent,
  openRoom,
  store,
  stores,
  type Writer
} from "./support/TestRoom.ts"

/** Changes the user's membership and gives the number of the event. */
const move = Effect.fnUntraced(function* (room: Writer, userId: UserId, membership: string, sender = userId) {
  const log = yield* EventLog
  const commit = yield* commitOf(room, [memberEvent(room.roomId, userId, membership, sender)])
  yield* log.append(commit)
  return commit.events[0]!.nid
})

const membershipOf = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
  return Option.getOrUndefined(yield* (yield* RoomStore).membership(userId, roomId))
})

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("RoomStore", (it) => {
  it.effect("every opening has a higher fence, and finds the commits; a room that has state keeps its version", () =>
    Effect.gen(function* () {
      const rooms = yield* RoomStore
      const roomId = "!opened:example.org" as RoomId
      assert.isTrue(Option.isNone(yield* rooms.open(roomId)))
      yield* rooms.prepare(roomId, "0", "private")
      yield* rooms.prepare(roomId, "9", "public")
      const empty = Option.getOrThrow(yield* rooms.open(roomId))
      assert.deepInclude(empty, { version: "9", forwardExtremities: [], current: undefined, joinedMembers: 0 })
      assert.isFalse(yield* rooms.exists(roomId))
      const [, last] = yield* store({ ...empty, roomId }, [makeEvent(roomId), makeEvent(roomId)])
      const opened = Option.getOrThrow(yield* rooms.open(roomId))
      assert.isAbove(opened.fence, empty.fence)
      assert.deepStrictEqual(opened.current, { chain: 1, seq: 0 })
      assert.deepStrictEqual(
        opened.forwardExtremities.map(({ event_id }) => event_id),
        [last!.event_id]
      )
      assert.deepStrictEqual(
        opened.forwardExtremities.map(({ depth }) => depth),
        [last!.depth]
      )
      assert.isTrue(yield* rooms.exists(roomId))
      assert.isFalse(yield* rooms.prepare(roomId, "0", "private"))
      assert.strictEqual(Option.getOrThrow(yield* rooms.open(roomId)).version, "9")
    })
  )

  it.effect("forward extremities are found again, whatever characters other servers put into event IDs", () =>
    Effect.gen(function* () {
      const rooms = yield* RoomStore
      const log = yield* EventLog
      const oddities = [
        "line\nbreak",
        '"quotes"',
        "back\\slash\\",
        "{braces}",
        "a,comma",
        "NULL",
        "{}",
        " ",
        "\t\r",
        "\u{1f92f}é\u0001"
      ]
      const printable = Array.from({ length: 94 }, (_, n) => String.fromCharCode(0x21 + n)).filter(
        (text) => text !== ":"
      )
      for (const localparts of [oddities, printable]) {
        const room = yield* openRoom(`oddities${localparts.length}`)
        const events = localparts.map((localpart) => ({
          ...makeEvent(room.roomId),
          event_id: `$odd${localpart}:example.org` as EventId
        }))
        const commit = yield* commitOf(room, events)
        const forwardExtremities = events.map(({ event_id }) => event_id)
        yield* log.append({ ...commit, summary: { ...commit.summary, forwardExtremities } })
        const opened = Option.getOrThrow(yield* rooms.open(room.roomId))
        assert.sameMembers(
          opened.forwardExtremities.map(({ event_id }) => event_id),
          forwardExtremities
        )
      }
    })
  )

  it.effect("the view of a former member ends when they left, whatever happens to the membership afterwards", () =>
    Effect.gen(function* () {
      const room = yield* openRoom("left")
      yield* move(room, alice, "invite", bob)
      assert.isUndefined((yield* membershipOf(alice, room.roomId))!.ended, "an invitation shows nothing of the room")
      yield* move(room, alice, "join")
      assert.isUndefined((yield* membershipOf(alice, room.roomId))!.ended)
      const left = yield* move(room, alice, "leave")
      for (const later of ["invite", "leave", "knock", "leave", "ban", "leave"]) {
        yield* store(room, [makeEvent(room.roomId)])
        yield* move(room, alice, later, bob)
        const membership = (yield* membershipOf(alice, room.roomId))!
        assert.deepInclude(membership, { membership: later, sender: bob })
        assert.deepInclude(membership.ended, { state: { chain: 1, seq: left } }, later)
        assert.strictEqual(membership.ended!.at.nid, left, later)
      }
      yield* move(room, alice, "join")
      yield* move(room, alice, "join")
      assert.isUndefined((yield* membershipOf(alice, room.roomId))!.ended)
      const kicked = yield* move(room, alice, "leave", bob)
      assert.strictEqual((yield* membershipOf(alice, room.roomId))!.ended!.at.nid, kicked)
    })
  )

  it.effect("the order of a user's memberships is that of the commits, not that of the numbers", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const room = yield* openRoom("numbers")
      yield* move(room, alice, "join")
      // Another node, whose block of numbers is an older one.
      const commit = yield* commitOf(room, [memberEvent(room.roomId, alice, "leave")])
      const nid = commit.events[0]!.nid - 5_000_000
      yield* log.append({
        ...commit,
        events: [{ ...commit.events[0]!, nid }],
        memberships: [{ ...commit.memberships[0]!, eventNid: nid, causedBy: nid }]
      })
      assert.strictEqual((yield* membershipOf(alice, room.roomId))!.ended!.at.nid, nid)
    })
  )

  it.effect("a user who was banned without having joined sees nothing", () =>
    Effect.gen(function* () {
      const room = yield* openRoom("banned")
      yield* move(room, alice, "ban", bob)
      assert.deepInclude(yield* membershipOf(alice, room.roomId), { membership: "ban", ended: undefined })
      assert.isUndefined(yield* membershipOf("@nobody:example.org" as UserId, room.roomId))
      assert.isUndefined(yield* membershipOf(alice, "!none:example.org" as RoomId))
    })
  )

  it.effect("lists the users that share rooms", () =>
    Effect.gen(function* () {
      const rooms = yield* RoomStore
      const [carol, dave, erin] = ["carol", "dave", "erin"].map((name) => `@${name}:c.example` as UserId)
      const [first, second] = [yield* openRoom("shared1"), yield* openRoom("shared2")]
      yield* move(first, carol!, "join")
      yield* move(first, dave!, "join")
      yield* move(second, carol!, "join")
      yield* move(second, erin!, "invite", carol)
      assert.deepStrictEqual(new Set(yield* rooms.joinedRooms(carol!)), new Set([first.roomId, second.roomId]))
      assert.deepStrictEqual(
        yield* rooms.joinedRoomsOfAll([dave!, erin!]),
        new Map([
          [dave!, [first.roomId]],
          [erin!, []]
        ])
      )
      assert.isTrue(yield* rooms.shareRoom(carol!, dave!))
      assert.isFalse(yield* rooms.shareRoom(carol!, erin!))
      assert.deepStrictEqual(new Set(yield* rooms.roommates(carol!)), new Set([carol!, dave!]))
      assert.deepStrictEqual(yield* rooms.joinedMembers(second.roomNid), [carol!])
      assert.deepStrictEqual(yield* rooms.joinedAt(second.roomNid, endOfTransaction(Number.MAX_SAFE_INTEGER)), [carol!])
      const of = (wanted: ReadonlyArray<string>) =>
        Effect.map(rooms.membershipsOf(erin!, wanted), (found) => found.map(({ roomId }) => roomId))
      assert.deepStrictEqual(yield* of(["join"]), [])
      assert.deepStrictEqual(yield* of(["join", "invite"]), [second.roomId])
    })
  )

  it.effect("the answers of a session are its own", () =>
    Effect.gen(function* () {
      const rooms = yield* RoomStore
      const room = yield* openRoom("answers")
      for (const txnId of ["a", "b"]) {
        yield* store(room, [makeEvent(room.roomId)], {
          transactions: [1, 2].map((tokenId) => ({
            tokenId,
            scope: room.roomId,
            txnId,
            response: `"${tokenId}${txnId}"`
          }))
        })
      }
      assert.deepStrictEqual(new Set(yield* rooms.transactionIds(1, room.roomId)), new Set(["a", "b"]))
      assert.deepStrictEqual(yield* rooms.transactionIds(1, "!other:example.org"), [])
      assert.strictEqual((yield* rooms.transaction(2, room.roomId, "b"))?.response, '"2b"')
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE client_transactions SET created_at = 1000 WHERE txn_id = 'a'`
      yield* rooms.forgetTransactions(1001)
      assert.deepStrictEqual(yield* rooms.transactionIds(1, room.roomId), ["b"])
    })
  )
})
