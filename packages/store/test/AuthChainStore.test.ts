import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { AuthChainStore } from "../src/AuthChainStore.ts"
import * as Database from "../src/Database.ts"
import { EventLog, EventStatus } from "../src/EventLog.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { commitOf, makeEvent, openRoom, stores, type Writer } from "./support/TestRoom.ts"

/** A state event that names the others. */
const stateEvent = (room: Writer, ...named: ReadonlyArray<Event>): Event =>
  makeEvent(room.roomId, {
    type: "org.example.state",
    state_key: "",
    auth_events: named.map((event) => event.event_id)
  })

/** Commits state events with their auth edges, as the room's actor does. Gives their numbers. */
const commit = Effect.fnUntraced(function* (
  room: Writer,
  events: ReadonlyArray<Event>,
  known: ReadonlyMap<EventId, number> = new Map(),
  status: EventStatus = EventStatus.timeline
) {
  const made = yield* commitOf(room, events)
  const nids = new Map([...known, ...made.events.map(({ event, nid }) => [event.event_id, nid] as const)])
  yield* (yield* EventLog).append({
    ...made,
    events: made.events.map((logged) => ({
      ...logged,
      status,
      authNids: logged.event.auth_events.map((id) => nids.get(id)!)
    }))
  })
  return nids
})

/** A diamond over two events, and one beside it. */
const diamond = Effect.fnUntraced(function* (name: string) {
  const room = yield* openRoom(name)
  const create = stateEvent(room)
  const levels = stateEvent(room, create)
  const left = stateEvent(room, create, levels)
  const right = stateEvent(room, create, levels)
  const top = stateEvent(room, left, right)
  const aside = stateEvent(room, create)
  const events = [create, levels, left, right, top, aside]
  return { room, create, levels, left, right, top, aside, events }
})

const sorted = (edges: ReadonlyMap<EventId, ReadonlyArray<EventId>>) =>
  Object.fromEntries([...edges].map(([id, named]) => [id, [...named].sort()]))

const named = (events: ReadonlyArray<Event>) =>
  Object.fromEntries(events.map((event) => [event.event_id, [...event.auth_events].sort()]))

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("AuthChainStore", (it) => {
  it.effect("an auth chain has the direct and indirect auth events, each once, and nothing else", () =>
    Effect.gen(function* () {
      const chains = yield* AuthChainStore
      const { create, events, left, levels, right, room, top } = yield* diamond("chain")
      yield* commit(room, events)
      assert.deepStrictEqual(sorted(yield* chains.edges([top.event_id])), named([create, levels, left, right, top]))
      const found = yield* chains.events([top.event_id, left.event_id])
      assert.sameMembers(
        found.map(({ event_id }) => event_id),
        [create, levels, right].map(({ event_id }) => event_id)
      )
      assert.deepStrictEqual(yield* chains.edges(["$nowhere:example.org" as EventId]), new Map())
    })
  )

  it.effect("finds the events that rest on others, beside the given ones", () =>
    Effect.gen(function* () {
      const chains = yield* AuthChainStore
      const { aside, create, events, left, levels, right, room, top } = yield* diamond("resting")
      yield* commit(room, events)
      assert.deepStrictEqual(sorted(yield* chains.restingOn([levels.event_id, left.event_id])), {
        [right.event_id]: [levels.event_id],
        [top.event_id]: [left.event_id]
      })
      assert.isTrue((yield* chains.restingOn([create.event_id])).has(aside.event_id))
    })
  )

  it.effect("an auth chain of 20,000 events is read whole", () =>
    Effect.gen(function* () {
      const chains = yield* AuthChainStore
      const room = yield* openRoom("deep")
      const events = [stateEvent(room)]
      for (let n = 1; n < 20_000; n++) events.push(stateEvent(room, events.at(-1)!))
      let nids: ReadonlyMap<EventId, number> = new Map()
      for (let from = 0; from < events.length; from += 5_000) {
        nids = yield* commit(room, events.slice(from, from + 5_000), nids)
      }
      assert.strictEqual((yield* chains.edges([events.at(-1)!.event_id])).size, events.length)
    })
  )

  it.effect("outliers that get their places keep their edges, on both ends", () =>
    Effect.gen(function* () {
      const chains = yield* AuthChainStore
      const log = yield* EventLog
      const { create, events, left, levels, right, room, top } = yield* diamond("placed")
      const nids = yield* commit(room, events, new Map(), EventStatus.outlier)
      const placing = yield* commitOf(room, [levels, left, top])
      yield* log.append({
        ...placing,
        events: [],
        placed: placing.events.map((logged) => ({ ...logged, outlierNid: nids.get(logged.event.event_id)! }))
      })
      assert.deepStrictEqual(sorted(yield* chains.edges([top.event_id])), named([create, levels, left, right, top]))
      assert.deepStrictEqual(sorted(yield* chains.restingOn([levels.event_id])), {
        [left.event_id]: [levels.event_id],
        [right.event_id]: [levels.event_id]
      })
    })
  )

  it.effect("events that were there before the edges get theirs when the database is opened", () =>
    Effect.gen(function* () {
      const chains = yield* AuthChainStore
      const sql = yield* SqlClient.SqlClient
      const { create, events, left, levels, right, room, top } = yield* diamond("migrated")
      yield* commit(room, events)
      yield* sql`TRUNCATE event_auth`
      yield* sql`INSERT INTO back_fills (name, after_nid) SELECT 'event_auth', min(nid) - 1 FROM events`
      yield* Database.migrate
      assert.deepStrictEqual(sorted(yield* chains.edges([top.event_id])), named([create, levels, left, right, top]))
      assert.deepStrictEqual(yield* sql`SELECT name FROM back_fills`, [])
    })
  )
})
