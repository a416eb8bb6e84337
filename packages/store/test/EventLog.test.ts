import { assert, layer } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Exit, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "../src/EventLog.ts"
import { EventStore } from "../src/EventStore.ts"
import { RoomStore } from "../src/RoomStore.ts"
import { beginning, comparePositions } from "../src/StreamToken.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { follow, idsOf, storedOf } from "./support/LogReads.ts"
import { alice, bob, commitOf, makeEvent, memberEvent, openRoom, store, stores } from "./support/TestRoom.ts"

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("EventLog", (it) => {
  it.effect("concurrent appends of many rooms are stored once, each room's in order", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const start = yield* log.currentPosition
      const rooms = yield* Effect.forEach(["many1", "many2", "many3"], openRoom)
      const events = rooms.map((room) => Array.from({ length: 100 }, () => makeEvent(room.roomId)))
      const commits = yield* Effect.forEach(
        events.flatMap((ofRoom, index) => ofRoom.map((event) => [rooms[index]!, event] as const)),
        ([room, event]) => commitOf(room, [event])
      )
      yield* Effect.all(commits.map(log.append), { concurrency: "unbounded", discard: true })
      const { read } = yield* follow(start, 1000, 300)
      for (const [index, room] of rooms.entries()) {
        const ofRoom = read.filter(({ roomNid }) => roomNid === room.roomNid)
        assert.deepStrictEqual(idsOf(ofRoom), idsOf(events[index]!))
      }
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ count: number }>`
        SELECT count(DISTINCT xid::text)::integer AS count FROM events
        WHERE room_nid = ANY (${rooms.map((room) => BigInt(room.roomNid))})`
      assert.isBelow(row!.count, 100, "commits that wait at the same time share a database transaction")
    })
  )

  it.effect("commits of many events that wait at the same time are not written by one statement", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const room = yield* openRoom("large")
      const commits = yield* Effect.forEach([100, 100, 100, 300, 1], (size) =>
        commitOf(
          room,
          Array.from({ length: size }, () => makeEvent(room.roomId))
        )
      )
      // The first one is under way while the others are queued.
      yield* Effect.all(commits.map(log.append), { concurrency: "unbounded", discard: true })
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{ size: number }>`
        SELECT count(*)::integer AS size FROM events WHERE room_nid = ${room.roomNid} GROUP BY xid ORDER BY min(nid)`
      const sizes = rows.map(({ size }) => size)
      assert.strictEqual(
        sizes.reduce((sum, size) => sum + size, 0),
        601
      )
      assert.deepStrictEqual(
        sizes.filter((size) => size > 256),
        [300],
        "a commit that is larger by itself stands alone"
      )
    })
  )

  it.effect("a reader of small slices reads everything once, in the order of the positions", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const room = yield* openRoom("slices")
      const start = yield* log.currentPosition
      const events = yield* store(
        room,
        Array.from({ length: 25 }, () => makeEvent(room.roomId))
      )
      const { at, read } = yield* follow(start, 4, 25)
      assert.deepStrictEqual(idsOf(read), idsOf(events))
      for (const [index, { position }] of read.entries()) {
        if (index > 0) assert.isAbove(comparePositions(position, read[index - 1]!.position), 0)
      }
      assert.deepStrictEqual((yield* log.readAfter(at, 4)).events, [])
      const fromStart = yield* log.readAfter(beginning, 1000)
      assert.isAtLeast(fromStart.events.length, 25)
    })
  )

  it.effect("events outside the timeline are stored and do not reach the stream", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const room = yield* openRoom("statuses")
      const start = yield* log.currentPosition
      const events = [0, 1, 2, 3, 4].map(() => makeEvent(room.roomId))
      const commit = yield* commitOf(room, events)
      yield* log.append({
        ...commit,
        events: commit.events.map((event, status) => ({ ...event, status: status as 0 | 1 | 2 | 3 | 4 }))
      })
      assert.deepStrictEqual(idsOf((yield* follow(start, 100, 1)).read), [events[0]!.event_id])
      const stored = yield* (yield* EventStore).byIds(events.map((event) => event.event_id))
      assert.deepStrictEqual(stored.map(({ status }) => status).sort(), [0, 1, 2, 3, 4])
      const backfilled = stored.find(({ status }) => status === 1)!
      assert.strictEqual(backfilled.position.xid, 0, "what is back-filled stands before what was seen live")
    })
  )

  it.effect("an event comes with all that belongs to it", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const rooms = yield* RoomStore
      const sql = yield* SqlClient.SqlClient
      const room = yield* openRoom("together")
      const start = yield* log.currentPosition
      const events = [memberEvent(room.roomId, alice, "join"), memberEvent(room.roomId, bob, "invite", alice)]
      const commit = yield* commitOf(room, events)
      const answer = { tokenId: 7, scope: room.roomId, txnId: "invite/1", response: '{"ok":true}' }
      yield* log.append({
        ...commit,
        transactions: [answer],
        outgoing: [{ destination: "other.example" as ServerName, nid: commit.events[1]!.nid }],
        summary: { ...commit.summary, name: "The room", topic: "Ünïcödé", joinedMembers: 1 }
      })
      const { memberships } = yield* log.readAfter(start, 100)
      assert.deepStrictEqual(
        memberships.map(({ membership, position, roomId, userId }) => [userId, membership, roomId, position.nid]),
        [
          [alice, "join", room.roomId, commit.events[0]!.nid],
          [bob, "invite", room.roomId, commit.events[1]!.nid]
        ]
      )
      assert.deepStrictEqual(yield* rooms.transactionIds(7, room.roomId), [answer.txnId])
      assert.deepStrictEqual(yield* rooms.transaction(7, room.roomId, "invite/1"), answer)
      assert.isUndefined(yield* rooms.transaction(8, room.roomId, "invite/1"))
      const outgoing = yield* sql`SELECT destination, event_nid FROM outgoing_pdus`
      assert.deepStrictEqual(outgoing, [{ destination: "other.example", event_nid: BigInt(commit.events[1]!.nid) }])
      const summaries = yield* sql`SELECT name, topic, joined_members FROM rooms WHERE room_id = ${room.roomId}`
      assert.deepStrictEqual(summaries, [{ name: "The room", topic: "Ünïcödé", joined_members: 1 }])
    })
  )

  it.effect("a membership that a message brings about reaches the stream with it", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const room = yield* openRoom("merged")
      const start = yield* log.currentPosition
      const commit = yield* commitOf(room, [makeEvent(room.roomId)])
      const { nid } = commit.events[0]!
      yield* log.append({
        ...commit,
        memberships: [
          { userId: bob, membership: "ban", sender: alice, eventNid: nid, causedBy: nid, local: true },
          {
            userId: "@eve:other.example" as never,
            membership: "ban",
            sender: alice,
            eventNid: nid,
            causedBy: nid,
            local: false
          }
        ]
      })
      const { memberships } = yield* log.readAfter(start, 100)
      assert.deepStrictEqual(
        memberships.map(({ membership, userId }) => [userId, membership]),
        [[bob, "ban"]]
      )
    })
  )

  it.effect("a redacted event is stored stripped, also where both are committed together", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const room = yield* openRoom("redacted")
      const [before] = yield* store(room, [makeEvent(room.roomId)])
      const together = makeEvent(room.roomId)
      const stripped = [before!, together].map((event) => ({ ...event, content: {} }))
      const first = yield* commitOf(room, [together])
      const second = yield* commitOf(room, [makeEvent(room.roomId, { type: "m.room.redaction" })], {
        redactions: stripped
      })
      yield* Effect.all([log.append(first), log.append(second)], { concurrency: 2 })
      const stored = yield* (yield* EventStore).byIds([before!.event_id, together.event_id])
      assert.deepStrictEqual(
        stored.map(({ event }) => event.content),
        [{}, {}]
      )
    })
  )

  it.effect("a stale writer is refused and leaves nothing, while its neighbours are stored", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const rooms = yield* RoomStore
      const stolen = yield* openRoom("stolen")
      const other = yield* openRoom("beside the stolen one")
      const thief = yield* openRoom("stolen")
      assert.isAbove(thief.fence, stolen.fence)
      const refused = memberEvent(stolen.roomId, alice, "join")
      const kept = makeEvent(other.roomId)
      const ofThief = makeEvent(thief.roomId)
      const stale = yield* commitOf(stolen, [refused], {
        transactions: [{ tokenId: 9, scope: stolen.roomId, txnId: "1", response: "{}" }],
        outgoing: [{ destination: "stale.example" as ServerName, nid: 1 }],
        chains: [{ chain: 999_999, roomNid: stolen.roomNid, parent: null, height: 0 }],
        deltas: [{ chain: 999_999, seq: 1, key: "m.room.name\0", eventNid: 1 }],
        redactions: [{ ...kept, content: { body: "made up" } }]
      })
      const [error] = yield* Effect.all(
        [
          Effect.flip(log.append(stale)),
          log.append(yield* commitOf(other, [kept])),
          log.append(yield* commitOf(thief, [ofThief]))
        ],
        { concurrency: "unbounded" }
      )
      assert.deepInclude(error, { _tag: "StaleWriter", roomId: stolen.roomId, fence: stolen.fence })
      assert.deepStrictEqual(yield* storedOf([refused, kept, ofThief]), new Set([kept.event_id, ofThief.event_id]))
      assert.deepStrictEqual(yield* rooms.transactionIds(9, stolen.roomId), [])
      assert.isTrue((yield* rooms.membership(alice, stolen.roomId))._tag === "None")
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT 1 FROM outgoing_pdus WHERE destination = 'stale.example'`, [])
      assert.deepStrictEqual(yield* sql`SELECT 1 FROM state_chains WHERE chain = 999999`, [])
      assert.deepStrictEqual(yield* sql`SELECT 1 FROM state_deltas WHERE chain = 999999`, [])
      const [neighbour] = yield* (yield* EventStore).byIds([kept.event_id])
      assert.deepStrictEqual(neighbour!.event.content, kept.content)
    })
  )

  it.effect(
    "what a refused commit had for readers and other servers reaches neither, in a batch with commits that are stored",
    () =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const stolen = yield* openRoom("stolen before a batch")
        const other = yield* openRoom("beside it in the batch")
        yield* openRoom("stolen before a batch")
        const start = yield* log.currentPosition
        const [kept, refused] = [makeEvent(other.roomId), memberEvent(stolen.roomId, alice, "join")]
        const outgoing = (server: string) => ({ outgoing: [{ destination: server as ServerName, nid: 1 }] })
        const commits = [
          yield* commitOf(other, [kept], outgoing("kept.example")),
          yield* commitOf(stolen, [refused], outgoing("refused.example"))
        ]
        const exits = yield* Effect.all(
          commits.map((commit) => Effect.exit(log.append(commit))),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false])
        const destinations = [...(yield* log.awaitOutgoing)]
        assert.deepStrictEqual(
          ["kept.example", "refused.example"].filter((server) => destinations.includes(server as ServerName)),
          ["kept.example"]
        )
        yield* log.settled
        const { events, memberships } = yield* log.readAfter(start, 100)
        assert.deepStrictEqual(idsOf(events), [kept.event_id])
        assert.deepStrictEqual(memberships, [])
      })
  )

  it.effect("a stale writer does not change the room itself", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const sql = yield* SqlClient.SqlClient
      const stolen = yield* openRoom("changed by a stale writer")
      yield* store(stolen, [makeEvent(stolen.roomId)])
      yield* openRoom("changed by a stale writer")
      const room = sql`SELECT to_json(rooms)::text AS room FROM rooms WHERE room_nid = ${stolen.roomNid}`
      const before = yield* room
      yield* Effect.flip(log.append(yield* commitOf(stolen, [makeEvent(stolen.roomId)])))
      assert.deepStrictEqual(yield* room, before)
    })
  )

  it.effect("a commit that fails takes no neighbour with it, and its writer must open the room again", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const bad = yield* openRoom("bad")
      const good = yield* openRoom("good")
      const twice = makeEvent(bad.roomId)
      yield* store(bad, [twice])
      const failing = yield* commitOf(bad, [makeEvent(bad.roomId, { event_id: twice.event_id })])
      const behind = yield* commitOf(bad, [makeEvent(bad.roomId)])
      const neighbours = yield* Effect.forEach([1, 2, 3], () => commitOf(good, [makeEvent(good.roomId)]))
      const exits = yield* Effect.all(
        [failing, behind, ...neighbours].map((commit) => Effect.exit(log.append(commit))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [false, false, true, true, true])
      const later = yield* Effect.flip(log.append(yield* commitOf(bad, [makeEvent(bad.roomId)])))
      assert.deepInclude(later, { _tag: "CommitFailed", untouched: true })
      const again = yield* openRoom("bad")
      const [stored] = yield* store(again, [makeEvent(again.roomId)])
      assert.isTrue((yield* storedOf([stored!])).has(stored!.event_id))
      assert.strictEqual(
        (yield* Effect.flip(log.append(yield* commitOf(bad, [makeEvent(bad.roomId)]))))._tag,
        "StaleWriter"
      )
    })
  )

  it.effect("text that PostgreSQL cannot hold in a column does not stop the log", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const room = yield* openRoom("nul")
      const commit = yield* commitOf(room, [makeEvent(room.roomId)])
      const error = yield* Effect.flip(log.append({ ...commit, summary: { ...commit.summary, name: "a\0b" } }))
      assert.strictEqual(error._tag, "CommitFailed")
      const fine = makeEvent(room.roomId, { content: { body: "nul \0, half \ud83d" } })
      yield* store(yield* openRoom("nul"), [fine])
      const [stored] = yield* (yield* EventStore).byIds([fine.event_id])
      assert.deepStrictEqual(stored!.event.content, fine.content)
    })
  )
})
