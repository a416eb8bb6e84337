/**
 * Queries on hot paths read large tables by their indexes, whether PostgreSQL knows anything of the tables or not: a young
 * database has no statistics, and one that grew within a minute has wrong ones.
 */
import { assert, layer } from "@effect/vitest"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { AuthChainStore } from "../src/AuthChainStore.ts"
import { EventLog } from "../src/EventLog.ts"
import { EventStore } from "../src/EventStore.ts"
import { threadsOf } from "../src/internal/commit/eventThreads.ts"
import { RelationStore } from "../src/RelationStore.ts"
import { RoomStore } from "../src/RoomStore.ts"
import { SearchStore } from "../src/SearchStore.ts"
import { SlidingRoomStore } from "../src/SlidingRoomStore.ts"
import { StateStore } from "../src/StateStore.ts"
import { beginning } from "../src/StreamToken.ts"
import { SyncStore } from "../src/SyncStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { commitOf, makeEvent, memberEvent, openRoom, stores } from "./support/TestRoom.ts"

const roomCount = 30
const members = 500
const theEnd = { xid: Number.MAX_SAFE_INTEGER, nid: Number.MAX_SAFE_INTEGER }
const userOf = (index: number) => `@user${index}:example.org` as UserId

const large = ["events", "state_deltas", "state_chains", "memberships", "membership_changes", "event_auth"]

/** Rooms whose states are of one chain each. */
const fill = Effect.gen(function* () {
  const log = yield* EventLog
  const { chains } = yield* StateStore
  yield* chains.refill(roomCount)
  const rooms = []
  for (let index = 0; index < roomCount; index++) {
    const writer = yield* openRoom(`plans${index}`)
    const events = Array.from({ length: members }, (_, user) => memberEvent(writer.roomId, userOf(user), "join"))
    const commit = yield* commitOf(writer, events)
    const chain = chains.takeUnsafe()!
    const ref = { chain, seq: members }
    yield* log.append({
      ...commit,
      chains: [{ chain, roomNid: writer.roomNid, parent: null, height: 0 }],
      deltas: commit.events.map(({ event, nid }, seq) => ({
        chain,
        seq: seq + 1,
        key: stateKeyOf(event.type, event.state_key!),
        eventNid: nid
      })),
      events: commit.events.map((logged, seq) => ({
        ...logged,
        stateBefore: { chain, seq },
        stateAfter: { chain, seq: seq + 1 },
        authNids: seq === 0 ? [] : [commit.events[0]!.nid]
      })),
      summary: { ...commit.summary, currentState: ref }
    })
    rooms.push({ ...writer, ref, ids: events.map(({ event_id }) => event_id) })
  }
  return rooms
})

/** Chains of other rooms, none of which begins with the state of another. */
const addChains = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO state_chains (chain, room_nid) SELECT number, number FROM generate_series(1000000, 1005000) AS number
    ON CONFLICT DO NOTHING`
})

/** A user who is in many other rooms. */
const joinRooms = Effect.fnUntraced(function* (userId: UserId, count: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO membership_changes (user_id, nid, room_nid, membership)
    SELECT ${userId}, number, number, 'join' FROM generate_series(1000000, ${1_000_000 + count}::integer) AS number`
})

const withoutStatistics = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  for (const table of large) yield* sql`ALTER TABLE ${sql.literal(table)} SET (autovacuum_enabled = false)`
})

/** The large tables that an effect has read from end to end, and how many rows of a table it has read. */
const reads = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* sql.withTransaction(
      Effect.gen(function* () {
        // Counted since the connection last reported to the statistics of all.
        const counts = Effect.map(
          sql<{ name: string; scans: bigint; rows: bigint }>`
            SELECT relname::text AS name, seq_scan AS scans, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows
            FROM pg_stat_xact_user_tables`,
          (rows) => new Map(rows.map(({ name, ...counted }) => [name, counted]))
        )
        const before = yield* counts
        yield* effect
        const after = yield* counts
        const increase = (name: string, count: "scans" | "rows") =>
          (after.get(name)?.[count] ?? 0n) - (before.get(name)?.[count] ?? 0n)
        return {
          scanned: large.filter((name) => increase(name, "scans") > 0n),
          rows: (name: string) => Number(increase(name, "rows"))
        }
      })
    )
  })

const database = Layer.mergeAll(
  stores,
  RelationStore.layer,
  SyncStore.layer,
  SlidingRoomStore.layer,
  SearchStore.layer
).pipe(Layer.provideMerge(TestDatabase.layer))

layer(database)("the plans of hot queries", (it) => {
  it.effect("read large tables by their indexes, with and without statistics", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* withoutStatistics
      const rooms = yield* fill
      yield* addChains
      const sliding = yield* SlidingRoomStore
      const states = yield* StateStore
      const events = yield* EventStore
      const sync = yield* SyncStore
      const roomStore = yield* RoomStore
      const chains = yield* AuthChainStore
      const relations = yield* RelationStore
      const [room] = rooms
      const few = rooms.slice(0, 20)
      const ranges = few.map(({ roomNid }) => ({ roomNid, after: beginning, upTo: theEnd }))
      const at = few.map(({ roomNid }) => ({ roomNid, at: theEnd }))
      const someIds = few.map(({ ids }) => ids[7] as EventId)
      const reactions = yield* commitOf(
        room!,
        someIds.map((event_id) =>
          makeEvent(room!.roomId, { content: { "m.relates_to": { rel_type: "m.annotation", event_id, key: "+" } } })
        )
      )
      const queries: { readonly [name: string]: Effect.Effect<unknown, unknown> } = {
        "states of many rooms": states.read(few),
        "one key of a state": states.read([room!], { key: ["m.room.member", userOf(3)] }),
        "some keys of states": states.read(few, { keys: [["m.room.member", userOf(3)]] }),
        "keys of their own of states": states.readEach(
          few.map((state) => ({ ...state, keys: [["m.room.member", userOf(3)]] }))
        ),
        "states without members": states.read(few, { except: "m.room.member" }),
        "settings that rooms had": events.stateHistories(
          few.map(({ roomNid }) => roomNid),
          "m.room.history_visibility",
          ""
        ),
        "one type of states": states.read(few, { types: ["m.room.member"] }),
        "IDs of a state": states.readIds(room!.ref),
        "keys of a state": states.readKeys(room!.ref, [stateKeyOf("m.room.member", userOf(3))]),
        divergence: states.divergence([
          { ...room!.ref, seq: 10 },
          { ...room!.ref, seq: 20 }
        ]),
        "ends of timelines": events.timelines(ranges, "b", 10, 100_000),
        "a page of a timeline": events.page(ranges, "b", 100, 100_000),
        "events by ID": events.byIds(someIds),
        "redactions of events": events.redactionsOf(room!.roomNid, someIds),
        "history of memberships": events.membershipHistory(userOf(3), theEnd),
        "history of a membership": events.membershipHistory(userOf(3), theEnd, room!.roomNid),
        "timelines of /sync": sync.timelines(ranges, 11, 100_000),
        "memberships of /sync": sync.memberships(userOf(3), theEnd),
        "rooms with news": sync.roomsWithNews(
          few.map(({ roomNid }) => roomNid),
          beginning,
          theEnd
        ),
        "states at a position": sync.statesAt(at),
        heroes: sync.heroes(
          userOf(3),
          few.map(({ roomNid }) => roomNid),
          5
        ),
        "counts of users": sync.userCounts(
          few.map(({ roomNid }) => roomNid),
          64
        ),
        "keys of states for sliding sync": sliding.stateKeys(
          few.map(({ ref, roomNid }) => ({ ref, roomNid, type: "m.room.member", stateKey: userOf(3) }))
        ),
        "memberships of some rooms": sync.memberships(
          userOf(3),
          theEnd,
          theEnd,
          at.map(({ roomNid }) => roomNid)
        ),
        "a membership": roomStore.membership(userOf(3), room!.roomId),
        "memberships of a user": roomStore.membershipsOf(userOf(3), ["join", "invite"]),
        "a room in common": roomStore.shareRoom(userOf(3), userOf(4)),
        "an auth chain": chains.events(someIds),
        "types of relations": relations.relationTypes(someIds),
        "threads of new events": threadsOf(sql, [reactions])
      }
      for (const statistics of ["without", "with"]) {
        if (statistics === "with") yield* sql`ANALYZE`
        const found: Record<string, ReadonlyArray<string>> = {}
        for (const [name, query] of Object.entries(queries)) {
          const { scanned } = yield* reads(query)
          if (scanned.length > 0) found[name] = scanned
        }
        assert.deepStrictEqual(found, {}, `${statistics} statistics`)
      }
    })
  )

  it.effect("are right for tables that grow after they were made", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const sync = yield* SyncStore
      const sliding = yield* SlidingRoomStore
      const { readEach } = yield* StateStore
      const { roomNid } = yield* openRoom("growing")
      const ref = { chain: 1_000_000, seq: 1 }
      const queries: { readonly [table: string]: Effect.Effect<unknown, unknown> } = {
        membership_changes: sync.memberships(userOf(3), theEnd, theEnd, [roomNid]),
        state_chains: Effect.all([
          sliding.stateKeys([{ roomNid, ref, type: "m.room.name", stateKey: "" }]),
          readEach([{ roomNid, ref, keys: [["m.room.name", ""]] }])
        ])
      }
      // One connection, which keeps its plans from the first execution (`genericPlans.ts`).
      const rows = yield* sql.withTransaction(
        Effect.gen(function* () {
          for (const query of Object.values(queries)) yield* query
          yield* addChains
          yield* joinRooms(userOf(3), 5_000)
          return yield* Effect.forEach(Object.entries(queries), ([table, query]) =>
            Effect.map(reads(query), ({ rows }) => [table, rows(table)] as const)
          )
        })
      )
      for (const [table, count] of rows) assert.isAtMost(count, 20, table)
    })
  )

  it.effect("read for the search index no more events than a batch has, however many are to be indexed", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { indexNext } = yield* SearchStore
      yield* sql`UPDATE events SET type = 'm.room.message'`
      const { rows } = yield* reads(indexNext)
      assert.isAtMost(rows("events"), 1_000)
    })
  )
})
