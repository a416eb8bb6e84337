import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, formatUserId, type RoomId, ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { draftRoomVersion as version } from "@greenroom/room/DraftRoomVersion"
import { type EventProposal, type StateLookup, type StateMap, stateKeyOf } from "@greenroom/room/RoomVersion"
import { generateSigningKey } from "@greenroom/room/Signing"
import { resolveStates } from "@greenroom/room/testing/ResolveStates"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect, Option, Result, Schema } from "effect"
import { Room } from "../../../src/room/RoomProtocol.ts"
import { Rooms } from "../../../src/room/Rooms.ts"
import type { Session } from "../../../src/runtime/Session.ts"
import { guest, layer as homeServer } from "../../TestHomeServer.ts"

const red = ServerName.make("red.test")
const key = generateSigningKey(red, "ed25519:1")
/** The first stays in the room, so that its server does. */
const strangers = ["anchor", "bob", "carol", "dan"].map((name) => formatUserId(name, red))

/**
 * A room as the specification describes it, with every state whole: beside it the actor, which knows states by what
 * changes between them, must come to the same.
 */
class Model {
  readonly events = new Map<EventId, Event>()
  readonly statesAfter = new Map<EventId, StateMap>()
  readonly rejected = new Set<EventId>()
  extremities: ReadonlyArray<EventId> = []

  stateAfter(ids: ReadonlyArray<EventId>): StateMap {
    const states = ids.map((id) => this.statesAfter.get(id)!)
    return resolveStates(version.stateResolution, states, (id) => this.events.get(id))
  }

  get state(): StateMap {
    return this.stateAfter(this.extremities)
  }

  lookupIn(state: StateMap): StateLookup {
    return (type, stateKey) => this.events.get(state.get(stateKeyOf(type, stateKey))!)
  }

  place(event: Event): EventStatus {
    const before = this.stateAfter(event.prev_events)
    const authEvents = event.auth_events.map((id) => this.events.get(id)!)
    const isAllowed =
      version.authoriseByAuthEvents(event, authEvents, {
        create: undefined,
        isRejected: (id) => this.rejected.has(id)
      }) === undefined && version.authorise(event, this.lookupIn(before)) === undefined
    const isAllowedNow = version.authorise(event, this.lookupIn(this.state)) === undefined
    this.events.set(event.event_id, event)
    if (!isAllowed) this.rejected.add(event.event_id)
    const own =
      event.state_key === undefined ? [] : [[stateKeyOf(event.type, event.state_key), event.event_id] as const]
    this.statesAfter.set(event.event_id, isAllowed ? new Map([...before, ...own]) : before)
    if (!isAllowed) return EventStatus.rejected
    if (!isAllowedNow) return EventStatus.softFailed
    const followed = new Set(event.prev_events)
    this.extremities = [...this.extremities.filter((id) => !followed.has(id)), event.event_id]
    return EventStatus.timeline
  }
}

const Pick = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
const Step = Schema.Struct({
  /** A stranger's event that follows what is newest, or something old; an event of ours; or the room is opened anew. */
  kind: Schema.Literals(["next", "fork", "fork", "fork", "merge", "ours", "reopened"]),
  actor: Pick,
  target: Pick,
  action: Pick,
  level: Pick,
  prev: Schema.Array(Pick).check(Schema.isMinLength(1), Schema.isMaxLength(3)),
  /** Whether it names the auth events of another place in the graph. */
  lies: Schema.Boolean,
  auth: Pick,
  time: Pick
})
type Step = typeof Step.Type

const proposalOf = (roomId: RoomId, { action, actor, level, target }: Step): EventProposal => {
  const sender = strangers[actor % strangers.length]!
  const other = strangers[1 + (target % (strangers.length - 1))]!
  const levels = [0, 10, 50, 51, 99]
  const state = (type: string, content: JsonObject, state_key = ""): EventProposal => ({
    room_id: roomId,
    sender,
    type,
    content,
    state_key
  })
  const member = (userId: UserId, membership: string, more: JsonObject = {}) =>
    state("m.room.member", { membership, ...more }, userId)
  const users = { "@alice:green.test": 100, [strangers[0]!]: 99, [other]: levels[level % levels.length]! }
  return [
    member(sender, "join", { displayname: String(level) }),
    member(sender, "join", { displayname: String(level) }),
    member(other, "ban"),
    member(other, "leave"),
    member(other, "invite"),
    state("m.room.power_levels", { users, events: { "m.room.power_levels": 50 }, state_default: 50 }),
    state("m.room.join_rules", { join_rule: level % 2 === 0 ? "public" : "invite" }),
    state("m.room.topic", { topic: String(level) }),
    state("m.room.name", { name: String(level) }),
    state("org.example.note", { note: level }, String(target % 5)),
    { room_id: roomId, sender, type: "m.room.message", content: { msgtype: "m.text", body: String(level) } }
  ][action % 11]!
}

/** Event IDs decide between events that are equal otherwise: those of a story are the same whenever it is told. */
const idOf = (step: Step, n: number): EventId =>
  `$${(step.level * 7919 + n) % 1009}of${n}at${scenes}:red.test` as EventId

const buildStep = (model: Model, roomId: RoomId, step: Step, n: number): Event => {
  const known = [...model.events.keys()].filter((id) => !model.rejected.has(id))
  const old = step.prev.map((pick) => known[pick % known.length]!)
  const newest = step.kind === "next" ? model.extremities : model.extremities.slice(-2)
  const prev = [...new Set(step.kind === "fork" ? old : newest)]
  const before = model.stateAfter(step.lies ? [known[step.auth % known.length]!] : prev)
  const at = {
    prevEvents: prev.map((id) => model.events.get(id)!),
    state: model.lookupIn(before),
    now: 1_000_000 + (step.time % 50)
  }
  return { ...version.build(proposalOf(roomId, step), at, key), event_id: idOf(step, n) }
}

let scenes = 0

/** A public room of alice's, with strangers in it, and the model of it. */
const scene = Effect.gen(function* () {
  const rooms = yield* Rooms
  const alice = guest("alice")
  const { room_id } = yield* rooms.create(alice, { visibility: "public", name: `room ${++scenes}` })
  const room = (yield* Room.client)(room_id)
  for (const userId of strangers) {
    const { event } = yield* room.MakeMembership({ handshake: "join", userId })
    const join = Result.getOrThrow(version.complete(event, key, 1_000_000))
    yield* room.SendMembership({ origin: red, handshake: "join", event: join })
  }
  const levels = yield* rooms.getState(alice, room_id, "m.room.power_levels", "")
  const users = { ...(levels.users as JsonObject), [strangers[0]!]: 99, [strangers[1]!]: 50 }
  yield* rooms.setState(alice, room_id, "m.room.power_levels", "", {
    ...levels,
    users,
    events: { "m.room.power_levels": 50 }
  })
  const model = new Model()
  const { chunk } = yield* rooms.messages(alice, room_id, { dir: "f", limit: 100 })
  yield* follow(
    model,
    chunk.map(({ event_id }) => event_id)
  )
  return { alice, room, room_id, model }
})

/** The model gets events that our server has made. */
const follow = Effect.fnUntraced(function* (model: Model, ids: ReadonlyArray<EventId>) {
  const stored = yield* (yield* EventStore).byIds(ids)
  const byId = new Map(stored.map(({ event }) => [event.event_id, event]))
  for (const id of ids) assert.strictEqual(model.place(byId.get(id)!), EventStatus.timeline)
})

const sayOrSet = Effect.fnUntraced(function* (alice: Session, roomId: RoomId, { action, level, target }: Step) {
  const rooms = yield* Rooms
  if (action % 2 === 0) return yield* rooms.send(alice, roomId, "m.room.message", { msgtype: "m.text", body: "hi" })
  return yield* rooms.setState(alice, roomId, "org.example.note", String(target % 5), { note: `ours ${level}` })
})

/** The room as it is stored: its current state and what its next event follows. */
const stored = Effect.fnUntraced(function* (roomId: RoomId) {
  const opened = Option.getOrThrow(yield* (yield* RoomStore).open(roomId))
  const state = yield* (yield* StateStore).readIds(opened.current!)
  return {
    state: Object.fromEntries([...state].map(([name, { id }]) => [name, id])),
    extremities: opened.forwardExtremities.map(({ event_id }) => event_id).sort()
  }
})

const statusOf = Effect.fnUntraced(function* (id: EventId) {
  return (yield* (yield* EventStore).byIds([id]))[0]?.status
})

layer(homeServer, { excludeTestServices: true })("RoomResolution", (it) => {
  it.effect.prop(
    "a room whose graph forks comes to the state that follows from all states, whatever forked where",
    { story: Schema.Array(Step).check(Schema.isMinLength(20), Schema.isMaxLength(60)) },
    ({ story }) =>
      Effect.gen(function* () {
        const { alice, model, room, room_id } = yield* scene
        for (const [n, step] of story.entries()) {
          if (step.kind === "reopened") yield* (yield* RoomStore).open(room_id)
          else if (step.kind === "ours") {
            const { event_id } = yield* sayOrSet(alice, room_id, step)
            if (!model.events.has(event_id)) yield* follow(model, [event_id])
          } else {
            const event = buildStep(model, room_id, step, n)
            const expected = model.place(event)
            yield* room.Receive({ origin: red, events: [event] })
            assert.strictEqual(yield* statusOf(event.event_id), expected)
          }
        }
        assert.deepStrictEqual(yield* stored(room_id), {
          state: Object.fromEntries(model.state),
          extremities: [...model.extremities].sort()
        })
      }),
    { arbitrary: { runs: 15 } }
  )

  it.effect(
    "events of the auth difference are resolved: a user of equal power does not undo a promotion of the other side",
    () =>
      Effect.gen(function* () {
        const { model, room, room_id } = yield* scene
        const [anchor, bob, carol] = strangers as [UserId, UserId, UserId]
        const past = model.extremities
        const levels = model.lookupIn(model.state)("m.room.power_levels", "")!.content
        const set = Effect.fnUntraced(function* (
          sender: UserId,
          prev: ReadonlyArray<EventId>,
          now: number,
          more: JsonObject
        ) {
          const at = {
            prevEvents: prev.map((id) => model.events.get(id)!),
            state: model.lookupIn(model.stateAfter(prev)),
            now
          }
          const content = { ...levels, ...more }
          const event = version.build({ room_id, sender, type: "m.room.power_levels", state_key: "", content }, at, key)
          model.place(event)
          yield* room.Receive({ origin: red, events: [event] })
          return event.event_id
        })
        const users = { "@alice:green.test": 100, [anchor]: 99, [bob]: 50, [carol]: 50 }
        const promotion = yield* set(anchor, past, 2, { users })
        const theirs = yield* set(carol, [promotion], 999_999, { users, invite: 50 })
        yield* set(bob, past, 3, { users: { ...users, [carol]: 0 }, kick: 40 })
        const { state } = yield* stored(room_id)
        assert.strictEqual(state[stateKeyOf("m.room.power_levels", "")], theirs)
        assert.deepStrictEqual(state, Object.fromEntries(model.state))
      })
  )
})
