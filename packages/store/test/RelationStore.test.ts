import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventStatus } from "../src/EventLog.ts"
import { LargeReads, withAllowance } from "../src/LargeReads.ts"
import { RelationStore } from "../src/RelationStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { alice, bob, commitOf, makeEvent, openRoom, store, stores, type Writer } from "./support/TestRoom.ts"

const theEnd = { xid: Number.MAX_SAFE_INTEGER, nid: Number.MAX_SAFE_INTEGER }

const related = ({ roomId }: Writer, relType: string, eventId: EventId, more: Partial<Event> = {}) =>
  makeEvent(roomId, {
    content: { msgtype: "m.text", body: "related", "m.relates_to": { rel_type: relType, event_id: eventId } },
    ...more
  })

const redacted = (event: Event): Event => ({ ...event, content: {} })

/** The threads as the table has them, and as the events say. */
const threads = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const kept = yield* sql`SELECT root, room_nid, events, nid FROM threads ORDER BY root, room_nid`
  const counted = yield* sql`
    SELECT DISTINCT ON (thread_id, room_nid) thread_id AS root, room_nid,
      (count(*) OVER (PARTITION BY thread_id, room_nid))::integer AS events, nid
    FROM events WHERE rel_type = 'm.thread' AND status <= 1 ORDER BY thread_id, room_nid, xid DESC, nid DESC`
  return { kept, counted }
})

const database = Layer.merge(stores, RelationStore.layer).pipe(Layer.provideMerge(TestDatabase.layer))

layer(database)("relations", (it) => {
  it.effect("threads have the number of their events and the newest one, whatever happens to the events", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const check = Effect.fnUntraced(function* (expected: ReadonlyArray<number>, step: string) {
        const { counted, kept } = yield* threads
        assert.deepStrictEqual(kept, counted, step)
        assert.sameMembers(
          kept.map(({ events }) => events),
          [...expected],
          step
        )
      })
      const writer = yield* openRoom("threads")
      const [one, two] = [makeEvent(writer.roomId), makeEvent(writer.roomId)]
      const [first, second, other] = [
        related(writer, "m.thread", one.event_id),
        related(writer, "m.thread", one.event_id),
        related(writer, "m.thread", two.event_id)
      ]
      yield* store(writer, [one, two, first, second, other, related(writer, "m.reference", first.event_id)])
      yield* check([2, 1], "events of one commit")
      const refused = yield* commitOf(writer, [related(writer, "m.thread", two.event_id)])
      const outlier = { ...refused.events[0]!, status: EventStatus.outlier }
      yield* store(writer, [], { events: [outlier] })
      yield* check([2, 1], "an outlier")
      const [place] = (yield* commitOf(writer, [outlier.event])).events
      yield* store(writer, [], { placed: [{ ...place!, outlierNid: outlier.nid }] })
      yield* check([2, 2], "an outlier that is placed")
      const old = yield* commitOf(writer, [related(writer, "m.thread", one.event_id)])
      yield* store(writer, [], { events: [{ ...old.events[0]!, nid: -5, status: EventStatus.backfilled }] })
      yield* check([3, 2], "history")
      yield* store(writer, [], { redactions: [redacted(second)] })
      yield* check([2, 2], "a redaction of the newest event")
      yield* store(writer, [], { redactions: [redacted(other), redacted(outlier.event)] })
      yield* check([2], "redactions of all events")
      yield* sql`DELETE FROM events WHERE event_id = ${first.event_id}`
      yield* check([1], "a removed event")
      yield* sql`DELETE FROM events WHERE rel_type = 'm.thread'`
      yield* check([], "no events")
    })
  )

  it.effect("the threads of events are found over three relations, also within a commit", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const writer = yield* openRoom("hops")
      const elsewhere = yield* openRoom("elsewhere")
      const root = makeEvent(writer.roomId)
      const reply = related(writer, "m.thread", root.event_id)
      const edit = related(writer, "m.replace", reply.event_id)
      const reaction = related(writer, "m.annotation", edit.event_id)
      const beyond = related(writer, "m.reference", reaction.event_id)
      const ofRoot = related(writer, "m.reference", root.event_id)
      const foreign = related(elsewhere, "m.reference", reply.event_id)
      const threadOf = Effect.fnUntraced(function* ({ event_id }: Event) {
        const [row] = yield* sql<{
          thread_id: string | null
        }>`SELECT thread_id FROM events WHERE event_id = ${event_id}`
        return row!.thread_id
      })
      const chain = [root, reply, edit, reaction, beyond, ofRoot]
      const found = [null, root.event_id, root.event_id, root.event_id, null, null]
      yield* store(writer, chain)
      yield* store(elsewhere, [foreign])
      assert.deepStrictEqual(yield* Effect.forEach(chain, threadOf), found, "in one commit")
      assert.isNull(yield* threadOf(foreign), "of another room")
      yield* sql`DELETE FROM events`
      for (const event of chain) yield* store(writer, [event])
      assert.deepStrictEqual(yield* Effect.forEach(chain, threadOf), found, "one by one")
    })
  )

  it.effect("summaries and lists of threads read few events of long threads", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const relations = yield* RelationStore
      const writer = yield* openRoom("long")
      const root = makeEvent(writer.roomId)
      const edit = related(writer, "m.replace", root.event_id)
      yield* store(writer, [root, edit])
      const replies = Array.from({ length: 2_000 }, () => related(writer, "m.thread", root.event_id))
      const last = related(writer, "m.thread", root.event_id, { sender: bob })
      yield* store(writer, [...replies, last])
      const summary = Effect.gen(function* () {
        const types = yield* relations.relationTypes([root.event_id])
        const parents = [{ event: root, roomNid: writer.roomNid, upTo: theEnd }]
        const [found] = (yield* relations.aggregations(bob, parents, types, [])).values()
        const [ofOthers] = (yield* relations.aggregations(alice, parents, types, [bob])).values()
        return { found, ofOthers, listed: yield* relations.threads(writer.roomNid, bob, theEnd, 20) }
      })
      for (const statistics of ["without", "with"]) {
        if (statistics === "with") yield* sql`ANALYZE`
        const read = Effect.map(
          sql<{ rows: bigint }>`
            SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows FROM pg_stat_xact_user_tables
            WHERE relname = 'events'`,
          ([row]) => Number(row?.rows ?? 0)
        )
        const rows = yield* sql.withTransaction(
          Effect.gen(function* () {
            const before = yield* read
            const { found, listed, ofOthers } = yield* summary
            assert.strictEqual(found?.edits[0]?.event.event_id, edit.event_id)
            assert.deepStrictEqual(
              [found?.thread?.count, found?.thread?.participated, found?.thread?.latest.event.event_id],
              [2_001, true, last.event_id]
            )
            assert.deepStrictEqual(
              [ofOthers?.thread?.count, ofOthers?.thread?.latest.event.event_id],
              [2_000, replies.at(-1)!.event_id]
            )
            assert.deepStrictEqual(
              listed.map(({ participated, root }) => [root, participated]),
              [[root.event_id, true]]
            )
            return (yield* read) - before
          })
        )
        assert.isAtMost(rows, 40, `${statistics} statistics`)
      }
    })
  )

  it.effect("edits and threads of more than a megabyte are counted as a large read, before they are read", () =>
    Effect.gen(function* () {
      const { aggregations } = yield* RelationStore
      const writer = yield* openRoom("large bundles")
      const body = "x".repeat(60_000)
      const parents = Array.from({ length: 20 }, () => makeEvent(writer.roomId))
      const children = parents.flatMap(({ event_id }) =>
        ["m.replace", "m.thread"].map((rel_type) =>
          makeEvent(writer.roomId, { content: { msgtype: "m.text", body, "m.relates_to": { rel_type, event_id } } })
        )
      )
      yield* store(writer, [...parents, ...children])
      const taken: Array<number> = []
      const counting = () => ({
        take: (bytes: number) => Effect.sync(() => void taken.push(bytes)),
        takeNow: () => true,
        expect: () => Effect.void,
        give: () => Effect.void,
        release: () => Effect.void
      })
      const read = (some: ReadonlyArray<Event>) =>
        aggregations(
          alice,
          some.map((event) => ({ event, roomNid: writer.roomNid, upTo: theEnd })),
          new Map(some.map(({ event_id }) => [event_id, ["m.replace", "m.thread"]])),
          []
        ).pipe(withAllowance, Effect.provideService(LargeReads, counting))
      const found = yield* read(parents)
      assert.lengthOf(taken, 2)
      for (const bytes of taken) assert.isAbove(bytes, 1024 * 1024)
      for (const { event_id } of parents) {
        const { edits, thread } = found.get(event_id)!
        assert.lengthOf(edits, 1)
        assert.deepStrictEqual([edits[0]!.event.content.body, thread?.latest.event.content.body], [body, body])
      }
    })
  )
})
