import { assert, layer } from "@effect/vitest"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { Effect, Layer, Option, Schema } from "effect"
import { EventLog } from "../src/EventLog.ts"
import { maxChainHeight, type NewChain, type StateDelta, type StateRef, StateStore } from "../src/StateStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { commitOf, makeEvent, openRoom, stores, type Writer } from "./support/TestRoom.ts"

/** A step of a room's state; if there is a choice, `pick` makes it. */
const Step = Schema.Struct({
  kind: Schema.Literals(["set", "set", "set", "remove", "fork", "snapshot"]),
  pick: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))
})

const types = ["m.room.name", "m.room.member", "org.example.état"]
const stateKeys = ["", "@alice:example.org", "@böb:example.org"]

/** The state at a point, as a plain map from the state key to the number of the event. */
interface Point {
  readonly ref: StateRef
  readonly state: ReadonlyMap<string, number>
}

let rooms = 0

/** Builds a room's states step by step, beside a model of them. */
const build = Effect.fnUntraced(function* (steps: ReadonlyArray<typeof Step.Type>) {
  const log = yield* EventLog
  const { chains: numbers } = yield* StateStore
  const writer: Writer = yield* openRoom(`states${++rooms}`)
  yield* numbers.refill(100)
  const chains: Array<NewChain> = []
  const deltas: Array<StateDelta> = []
  const events = steps.map(({ pick }) =>
    makeEvent(writer.roomId, { type: types[pick % 3]!, state_key: stateKeys[Math.floor(pick / 3) % 3]! })
  )
  const commit = yield* commitOf(writer, events)

  const beginChain = (from: Point | undefined): Point => {
    const parent = chains.find(({ chain }) => chain === from?.ref.chain)
    const height = (parent?.height ?? 0) + 1
    const isSnapshot = from === undefined || height > maxChainHeight
    const chain = numbers.takeUnsafe()!
    const state = from?.state ?? new Map()
    chains.push({
      chain,
      roomNid: writer.roomNid,
      parent: isSnapshot ? null : from.ref,
      height: isSnapshot ? 0 : height,
      ...(from === undefined || !isSnapshot ? {} : { equals: from.ref })
    })
    if (isSnapshot) for (const [key, eventNid] of state) deltas.push({ chain, seq: 0, key, eventNid })
    return { ref: { chain, seq: 0 }, state }
  }

  let point = beginChain(undefined)
  const points = [point]
  const tips = new Map<number, number>()
  const follow = (key: string, eventNid: number | null) => {
    // A chain goes on at its end alone; elsewhere a new one begins.
    if ((tips.get(point.ref.chain) ?? 0) > point.ref.seq) point = beginChain(point)
    const ref = { chain: point.ref.chain, seq: point.ref.seq + 1 }
    const state = new Map(point.state)
    if (eventNid === null) state.delete(key)
    else state.set(key, eventNid)
    deltas.push({ ...ref, key, eventNid })
    tips.set(ref.chain, ref.seq)
    point = { ref, state }
  }
  for (const [index, { kind, pick }] of steps.entries()) {
    const { event, nid } = commit.events[index]!
    const present = [...point.state.keys()]
    if (kind === "set") follow(stateKeyOf(event.type, event.state_key!), nid)
    else if (kind === "remove" && present.length > 0) follow(present[pick % present.length]!, null)
    else if (kind === "fork") point = beginChain(points[pick % points.length]!)
    else if (kind === "snapshot") {
      const chain = numbers.takeUnsafe()!
      const equals = pick % 2 === 0 ? { equals: point.ref } : {}
      chains.push({ chain, roomNid: writer.roomNid, parent: null, height: 0, ...equals })
      for (const [key, eventNid] of point.state) deltas.push({ chain, seq: 0, key, eventNid })
      point = { ref: { chain, seq: 0 }, state: point.state }
    }
    points.push(point)
  }
  yield* log.append({ ...commit, chains, deltas, summary: { ...commit.summary, currentState: point.ref } })
  return { writer, points, commit }
})

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("StateStore", (it) => {
  it.effect.prop(
    "the state at every point is the result of the changes before it",
    { steps: Schema.Array(Step).check(Schema.isMinLength(30), Schema.isMaxLength(80)) },
    ({ steps }) =>
      Effect.gen(function* () {
        const states = yield* StateStore
        const { commit, points, writer } = yield* build(steps)
        const idOf = new Map(commit.events.map(({ event, nid }) => [nid, event.event_id]))
        for (const { ref, state } of points) {
          const expected = new Map([...state].map(([key, nid]) => [key, { id: idOf.get(nid)!, nid }]))
          assert.deepStrictEqual(yield* states.readIds(ref), expected)
        }
        const { ref, state } = points.at(-1)!
        const whole = yield* states.read([{ roomNid: writer.roomNid, ref }])
        assert.deepStrictEqual(new Set(whole.map(({ nid }) => nid)), new Set(state.values()))
        const members = yield* states.read([{ roomNid: writer.roomNid, ref }], { types: ["m.room.member"] })
        assert.deepStrictEqual(
          new Set(members.map(({ nid }) => nid)),
          new Set([...state].filter(([key]) => key.startsWith("m.room.member\0")).map(([, nid]) => nid))
        )
        const one = yield* states.read([{ roomNid: writer.roomNid, ref }], { key: ["m.room.name", ""] })
        assert.strictEqual(one[0]?.nid, state.get(stateKeyOf("m.room.name", "")))
        assert.deepStrictEqual(yield* states.readCurrent(writer.roomId, { types: ["m.room.member"] }), members)
        assert.deepStrictEqual(yield* states.readCurrent(writer.roomId, { key: ["m.room.name", ""] }), one)
      }),
    { arbitrary: { runs: 40 } }
  )

  it.effect.prop(
    "compares states by the changes since their newest common past",
    {
      steps: Schema.Array(Step).check(Schema.isMinLength(30), Schema.isMaxLength(80)),
      picks: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))).check(
        Schema.isMinLength(2),
        Schema.isMaxLength(5)
      )
    },
    ({ picks, steps }) =>
      Effect.gen(function* () {
        const states = yield* StateStore
        const { points } = yield* build(steps)
        const chosen = picks.map((pick) => points[pick % points.length]!)
        const found = Option.getOrUndefined(yield* states.divergence(chosen.map(({ ref }) => ref)))
        if (found === undefined) {
          const chains = new Set(chosen.map(({ ref }) => ref.chain))
          assert.isAbove(chains.size, 1, "states of one chain have a common past")
          return
        }
        const base = yield* states.readIds(found.base)
        for (const [index, { state }] of chosen.entries()) {
          const applied = new Map([...base].map(([key, { nid }]) => [key, nid]))
          for (const [key, value] of found.changes[index]!) {
            if (value === undefined) applied.delete(key)
            else applied.set(key, value.nid)
          }
          assert.deepStrictEqual(applied, new Map(state))
        }
        const again = Option.getOrThrow(yield* states.divergence([chosen[0]!.ref], found.base))
        assert.deepStrictEqual(again.changes[0], found.changes[0])
        const asked = [...base.keys()].slice(0, 3)
        assert.deepStrictEqual(
          yield* states.readKeys(found.base, [...asked, stateKeyOf("org.example.none", "")]),
          new Map(asked.map((key) => [key, base.get(key)!]))
        )
      }),
    { arbitrary: { runs: 60 } }
  )

  it.effect("a state and its own past differ by the changes in between, also across a snapshot", () =>
    Effect.gen(function* () {
      const states = yield* StateStore
      const set = Array.from({ length: 12 }, (_, pick) => ({ kind: "set", pick }) as const)
      const { points } = yield* build([...set, { kind: "snapshot", pick: 0 }, ...set.slice(0, 2)])
      const [early, late] = [points[10]!, points.at(-1)!]
      const { base, changes } = Option.getOrThrow(yield* states.divergence([early.ref, late.ref]))
      assert.deepStrictEqual(base, early.ref)
      assert.strictEqual(changes[0]!.size, 0)
      assert.strictEqual(changes[1]!.size, 3, "a key that was set twice counts once")
    })
  )

  it.effect("the states of several rooms are read at once, each from its own point", () =>
    Effect.gen(function* () {
      const states = yield* StateStore
      const steps = Array.from({ length: 6 }, (_, pick) => ({ kind: "set", pick }) as const)
      const [a, b] = yield* Effect.all([build(steps), build(steps)])
      const [early, late] = [a.points[2]!, b.points.at(-1)!]
      const entries = yield* states.read([
        { roomNid: a.writer.roomNid, ref: early.ref },
        { roomNid: b.writer.roomNid, ref: late.ref }
      ])
      const of = (roomNid: number) => entries.filter((entry) => entry.roomNid === roomNid).map(({ nid }) => nid)
      assert.deepStrictEqual(new Set(of(a.writer.roomNid)), new Set(early.state.values()))
      assert.deepStrictEqual(new Set(of(b.writer.roomNid)), new Set(late.state.values()))
      assert.deepStrictEqual(yield* states.read([]), [])
      const unknown = yield* states.readCurrent("!unknown:example.org" as RoomId, { types })
      assert.deepStrictEqual(unknown, [])
    })
  )
})
