import { assert, layer } from "@effect/vitest"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "../src/EventLog.ts"
import { EventStore, maxRedactionBytes, maxRedactions } from "../src/EventStore.ts"
import { freeRead, LargeReads, withAllowance } from "../src/LargeReads.ts"
import { beginning, positionBefore, type StreamPosition } from "../src/StreamToken.ts"
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

const theEnd: StreamPosition = { xid: Number.MAX_SAFE_INTEGER, nid: Number.MAX_SAFE_INTEGER }

const all = ({ roomNid }: Writer) => ({ roomNid, after: beginning, upTo: theEnd })

const positionOf = Effect.fnUntraced(function* (id: EventId) {
  return (yield* (yield* EventStore).byIds([id]))[0]!.position
})

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("EventStore", (it) => {
  it.effect("pages a timeline in both directions, the start excluded and the end included", () =>
    Effect.gen(function* () {
      const { timelines } = yield* EventStore
      const room = yield* openRoom("timeline")
      const other = yield* openRoom("another timeline")
      const events = []
      for (let index = 0; index < 6; index++) {
        events.push(...(yield* store(room, [makeEvent(room.roomId)])))
        yield* store(other, [makeEvent(other.roomId)])
      }
      const ids = events.map(({ event_id }) => event_id)
      const page = (range: Partial<ReturnType<typeof all>>, direction: "f" | "b", limit: number) =>
        Effect.map(timelines([{ ...all(room), ...range }], direction, limit), (found) =>
          found.map(({ event }) => event.event_id)
        )
      const [second, fifth] = [yield* positionOf(ids[1]!), yield* positionOf(ids[4]!)]
      assert.deepStrictEqual(yield* page({}, "f", 100), ids)
      assert.deepStrictEqual(yield* page({}, "b", 100), ids.toReversed())
      assert.deepStrictEqual(yield* page({}, "f", 2), ids.slice(0, 2))
      assert.deepStrictEqual(yield* page({}, "b", 2), [ids[5]!, ids[4]!])
      assert.deepStrictEqual(yield* page({ after: second, upTo: fifth }, "f", 100), ids.slice(2, 5))
      assert.deepStrictEqual(yield* page({ after: second, upTo: fifth }, "b", 2), [ids[4]!, ids[3]!])
      assert.deepStrictEqual(yield* page({ after: fifth, upTo: second }, "f", 100), [])
      assert.deepStrictEqual(yield* page({}, "f", 0), [])
    })
  )

  it.effect("pages several ranges at once, with a limit for each or for all together", () =>
    Effect.gen(function* () {
      const { page, timelines } = yield* EventStore
      const rooms = [yield* openRoom("stretch1"), yield* openRoom("stretch2")]
      const ids: Array<EventId> = []
      for (let index = 0; index < 8; index++) {
        const room = rooms[index % 2]!
        ids.push(...(yield* store(room, [makeEvent(room.roomId)])).map(({ event_id }) => event_id))
      }
      const perRange = (direction: "f" | "b", limit: number) =>
        Effect.map(timelines(rooms.map(all), direction, limit), (found) => found.map(({ event }) => event.event_id))
      const together = (direction: "f" | "b", limit: number) =>
        Effect.map(page(rooms.map(all), direction, limit, 1_000_000), ({ cut, events }) => {
          assert.isFalse(cut)
          return events.map(({ event }) => event.event_id)
        })
      assert.deepStrictEqual(yield* perRange("f", 100), ids)
      assert.deepStrictEqual(yield* perRange("b", 1), [ids[7]!, ids[6]!])
      assert.deepStrictEqual(yield* together("f", 100), ids)
      assert.deepStrictEqual(yield* together("f", 3), ids.slice(0, 3))
      assert.deepStrictEqual(yield* together("b", 3), ids.slice(5).toReversed())
      assert.deepStrictEqual(yield* timelines([], "f", 10), [])
      assert.deepStrictEqual(yield* page([], "f", 10, 1), { events: [], cut: false, bytes: 0, mayHaveGaps: false })
    })
  )

  it.effect("a page says whether its range may have gaps, also where it has no event next to one", () =>
    Effect.gen(function* () {
      const { newestGap, page } = yield* EventStore
      const sql = yield* SqlClient.SqlClient
      const room = yield* openRoom("gaps")
      const other = yield* openRoom("without gaps")
      const ids: Array<EventId> = []
      for (let index = 0; index < 6; index++) {
        ids.push((yield* store(room, [makeEvent(room.roomId)]))[0]!.event_id)
        yield* store(other, [makeEvent(other.roomId)])
      }
      yield* sql`
        INSERT INTO timeline_gaps (nid, room_nid, xid) SELECT nid, room_nid, xid FROM events WHERE event_id = ${ids[2]!}`
      const at = yield* Effect.forEach(ids, positionOf)
      const mayHaveGaps = (range: Partial<ReturnType<typeof all>>, limit = 1) =>
        Effect.map(page([{ ...all(room), ...range }], "b", limit, 1_000_000), (found) => found.mayHaveGaps)
      assert.isTrue(yield* mayHaveGaps({}))
      assert.isTrue(yield* mayHaveGaps({ upTo: at[2]! }))
      assert.isTrue(yield* mayHaveGaps({ after: at[1]! }))
      assert.isFalse(yield* mayHaveGaps({ after: at[2]! }))
      assert.isFalse(yield* mayHaveGaps({ upTo: at[1]! }))
      // The gap directly after the range is one of the range.
      const before = { after: beginning, upTo: positionBefore(at[2]!) }
      assert.isTrue(yield* mayHaveGaps(before))
      assert.strictEqual((yield* newestGap({ ...all(room), ...before }))?.event.event_id, ids[2])
      assert.isFalse((yield* page([all(other)], "b", 1, 1_000_000)).mayHaveGaps)
      // A page without events cannot tell.
      assert.isTrue(yield* mayHaveGaps({ after: at[5]! }))
    })
  )

  it.effect("reads no more of a page than any request may have before the request has its permit", () =>
    Effect.gen(function* () {
      const { page } = yield* EventStore
      const room = yield* openRoom("large page")
      const content = { msgtype: "m.text", body: "x".repeat(60_000) }
      const events = Array.from({ length: 20 }, () => makeEvent(room.roomId, { content }))
      yield* store(room, events)
      const log: Array<string> = []
      const counting = {
        take: (bytes: number) => Effect.sync(() => void log.push(bytes > freeRead ? "permit" : "none")),
        takeNow: () => true,
        expect: () => Effect.void,
        give: () => Effect.void,
        release: () => Effect.void
      }
      const read = (limit: number) =>
        page([all(room)], "b", limit, 1024 * 1024).pipe(
          withAllowance,
          Effect.provideService(LargeReads, () => counting)
        )
      const whole = yield* read(1_000)
      assert.deepStrictEqual(log, ["permit"])
      assert.isTrue(whole.cut)
      assert.isAbove(whole.bytes, 1024 * 1024)
      assert.deepStrictEqual(
        whole.events.map(({ event }) => event),
        events.toReversed().slice(0, whole.events.length)
      )
      log.length = 0
      assert.lengthOf((yield* read(2)).events, 2)
      assert.deepStrictEqual(log, ["none"])
    })
  )

  it.effect("ends a page where it has enough bytes, but not before its first event", () =>
    Effect.gen(function* () {
      const { page, timelines } = yield* EventStore
      const room = yield* openRoom("bytes")
      const ids: Array<EventId> = []
      for (let index = 0; index < 4; index++) {
        const large = makeEvent(room.roomId, { content: { msgtype: "m.text", body: "x".repeat(10_000) } })
        ids.push(...(yield* store(room, [large])).map(({ event_id }) => event_id))
      }
      const read = (direction: "f" | "b", limit: number, maxBytes: number) =>
        Effect.map(page([all(room)], direction, limit, maxBytes), ({ cut, events }) => ({
          cut,
          ids: events.map(({ event }) => event.event_id)
        }))
      assert.deepStrictEqual(yield* read("f", 10, 1), { cut: true, ids: ids.slice(0, 1) })
      assert.deepStrictEqual(yield* read("f", 10, 15_000), { cut: true, ids: ids.slice(0, 2) })
      assert.deepStrictEqual(yield* read("b", 10, 15_000), { cut: true, ids: [ids[3]!, ids[2]!] })
      assert.deepStrictEqual(yield* read("b", 2, 15_000), { cut: false, ids: [ids[3]!, ids[2]!] })
      assert.deepStrictEqual(yield* read("f", 10, 1_000_000), { cut: false, ids })
      const other = yield* openRoom("few bytes")
      const [small] = yield* store(other, [makeEvent(other.roomId)])
      const of = yield* timelines([all(room), all(other)], "b", 10, 15_000)
      assert.deepStrictEqual(
        of.map(({ event }) => event.event_id),
        [small!.event_id, ids[3]!, ids[2]!]
      )
    })
  )

  it.effect("history that was back-filled stands before all that was seen live", () =>
    Effect.gen(function* () {
      const { timelines } = yield* EventStore
      const room = yield* openRoom("backfilled")
      const [live] = yield* store(room, [makeEvent(room.roomId)])
      const commit = yield* commitOf(room, [makeEvent(room.roomId), makeEvent(room.roomId)])
      yield* (yield* EventLog).append({
        ...commit,
        events: commit.events.map((event, index) => ({ ...event, nid: -index - 1, status: 1 }))
      })
      const found = yield* timelines([all(room)], "f", 10)
      assert.deepStrictEqual(
        found.map(({ event }) => event.event_id),
        [commit.events[1]!.event.event_id, commit.events[0]!.event.event_id, live!.event_id]
      )
    })
  )

  it.effect("finds events by ID with their properties", () =>
    Effect.gen(function* () {
      const { byIds } = yield* EventStore
      const room = yield* openRoom("known")
      const [event] = yield* store(room, [makeEvent(room.roomId)])
      const [found, ...more] = yield* byIds([event!.event_id, "$unknown:example.org" as EventId])
      assert.deepStrictEqual(more, [])
      assert.deepInclude(found, { event: event!, roomNid: room.roomNid, status: 0 })
      assert.deepStrictEqual(found!.stateBefore, { chain: 1, seq: found!.position.nid })
      assert.deepStrictEqual(yield* byIds([]), [])
    })
  )

  it.effect("bundles feedback on the messages of its room, up to a position", () =>
    Effect.gen(function* () {
      const { feedbackOn } = yield* EventStore
      const room = yield* openRoom("feedback")
      const elsewhere = yield* openRoom("feedback elsewhere")
      const [message, other] = yield* store(room, [makeEvent(room.roomId), makeEvent(room.roomId)])
      const feedback = ({ roomId }: Writer, target: string) =>
        makeEvent(roomId, { type: "m.room.message.feedback", content: { type: "read", target_event_id: target } })
      const [read] = yield* store(room, [feedback(room, message!.event_id)])
      yield* store(elsewhere, [feedback(elsewhere, message!.event_id)])
      const until = yield* positionOf(read!.event_id)
      const [late] = yield* store(room, [feedback(room, message!.event_id)])
      const found = (targets: ReadonlyArray<EventId>, upTo: StreamPosition, maxBytes = 1_000_000) =>
        Effect.map(feedbackOn(room.roomNid, targets, upTo, maxBytes), (events) =>
          events.map(({ event_id }) => event_id)
        )
      assert.deepStrictEqual(yield* found([message!.event_id], theEnd), [read!.event_id, late!.event_id])
      assert.deepStrictEqual(yield* found([message!.event_id], until), [read!.event_id])
      assert.deepStrictEqual(yield* found([other!.event_id], theEnd), [])
      const bytes = Buffer.byteLength(JSON.stringify(read))
      assert.deepStrictEqual(yield* found([message!.event_id], theEnd, bytes + 10), [read!.event_id])
    })
  )

  it.effect("finds of the redactions of events a bounded number and size, of each sender the newest", () =>
    Effect.gen(function* () {
      const { redactionsOf } = yield* EventStore
      const room = yield* openRoom("redactions")
      const elsewhere = yield* openRoom("redactions elsewhere")
      const redaction = (redacts: EventId, sender: UserId, reason = "", { roomId } = room) =>
        makeEvent(roomId, { type: "m.room.redaction", redacts, sender, content: { reason } })
      const found = (...ids: ReadonlyArray<EventId>) =>
        Effect.map(redactionsOf(room.roomNid, ids), (redactions) => redactions.map(({ event }) => event))
      const targets = Array.from({ length: 140 }, () => makeEvent(room.roomId).event_id)
      const [one, two] = targets as [EventId, EventId]

      const ofAlice = Array.from({ length: 3 }, () => redaction(one, alice))
      const ofBob = redaction(one, bob)
      yield* store(room, [...ofAlice, ofBob])
      yield* store(elsewhere, [redaction(one, "@carol:example.org" as UserId, "", elsewhere)])
      assert.sameDeepMembers(yield* found(one, two), [ofAlice[2]!, ofBob])

      const senders = Array.from({ length: maxRedactions + 5 }, (_, index) => `@${index}:example.org` as UserId)
      yield* store(
        room,
        senders.map((sender) => redaction(two, sender))
      )
      const ofTwo = yield* found(two)
      assert.sameMembers(
        ofTwo.map(({ sender }) => sender),
        senders.slice(0, maxRedactions)
      )

      yield* store(
        room,
        targets.map((target) => redaction(target, "@dave:example.org" as UserId, "x".repeat(64_000)))
      )
      const ofAll = yield* found(...targets)
      const bytes = ofAll.reduce((sum, event) => sum + Buffer.byteLength(JSON.stringify(event)), 0)
      assert.isBelow(bytes, maxRedactionBytes)
      assert.isAbove(bytes, maxRedactionBytes - 2 * 65_536)
    })
  )

  it.effect("finds the state events that have the content of a replaced one as prev_content", () =>
    Effect.gen(function* () {
      const { byIds, replacementsOf } = yield* EventStore
      const room = yield* openRoom("replaced")
      const name = (text: string, replaces?: EventId) =>
        makeEvent(room.roomId, {
          type: "m.room.name",
          state_key: "",
          content: { name: text },
          ...(replaces === undefined
            ? {}
            : { replaces_state: replaces, unsigned: { prev_content: { name: "before" } } })
        })
      const first = name("first")
      const second = name("second", first.event_id)
      const third = name("third", second.event_id)
      const topic = makeEvent(room.roomId, { type: "m.room.topic", state_key: "", replaces_state: first.event_id })
      for (const event of [first, topic, second, third]) yield* store(room, [event])
      const replacing = Effect.fnUntraced(function* (id: EventId) {
        const [stored] = yield* byIds([id])
        return (yield* replacementsOf(stored!)).map(({ event_id }) => event_id)
      })
      assert.deepStrictEqual(yield* replacing(first.event_id), [second.event_id])
      assert.deepStrictEqual(yield* replacing(third.event_id), [])
    })
  )

  it.effect("returns the history of a user's memberships in the order of the stream", () =>
    Effect.gen(function* () {
      const { membershipHistory } = yield* EventStore
      const room = yield* openRoom("history")
      const moves = [
        memberEvent(room.roomId, alice, "invite", bob),
        memberEvent(room.roomId, bob, "join"),
        memberEvent(room.roomId, alice, "join"),
        memberEvent(room.roomId, alice, "leave")
      ]
      for (const event of moves) yield* store(room, [event])
      const history = (upTo: StreamPosition) =>
        Effect.map(membershipHistory(alice, upTo), (changes) => changes.map(({ membership }) => membership))
      assert.deepStrictEqual(yield* history(theEnd), ["invite", "join", "leave"])
      assert.deepStrictEqual(yield* history(yield* positionOf(moves[2]!.event_id)), ["invite", "join"])
    })
  )
})
