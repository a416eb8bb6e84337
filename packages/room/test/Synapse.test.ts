/**
 * Rooms that two Synapses made while they were cut from each other: our formats read their events, our rules say of each
 * what Synapse says, and our resolution comes to the same state at every event.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  type AuthContext,
  type RoomVersion,
  type StateLookup,
  type StateMap,
  stateKeyOf
} from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { resolveStates } from "@greenroom/room/StateConflict"
import { Result } from "effect"
import {
  currentState,
  type Fate,
  type Fixture,
  type FixtureEvent,
  type FixtureForgery,
  type FixtureRoom,
  keysOf,
  readFixture,
  stateBefore
} from "./support/SynapseFixture.ts"

const versions = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]

const sorted = (state: StateMap) => [...state].sort(([a], [b]) => (a < b ? -1 : 1))

/**
 * The events that the specification allows to exist. Before version 11 Synapse stores events with types of up to 255
 * characters and more bytes than that, and rejects them; here, and by it in version 11, they are dropped.
 */
const readable = (room: FixtureRoom): ReadonlyArray<FixtureEvent> =>
  room.events.filter(({ pdu }) => Buffer.byteLength(pdu.type as string) <= 255)

/** A room as one of the two servers knows it, computed by us. */
class ComputedRoom {
  readonly version: RoomVersion
  readonly room: FixtureRoom
  readonly server: "a" | "b"
  readonly events = new Map<EventId, Event>()
  readonly rejected = new Map<EventId, string>()
  readonly statesAfter = new Map<EventId, StateMap>()
  readonly lookup = (id: EventId): Event | undefined => (this.rejected.has(id) ? undefined : this.events.get(id))

  constructor(version: RoomVersion, room: FixtureRoom, server: "a" | "b") {
    this.version = version
    this.room = room
    this.server = server
    for (const { event_id, pdu } of readable(room)) this.events.set(event_id, Result.getOrThrow(version.fromPdu(pdu)))
  }

  get context(): AuthContext {
    const create = [...this.events.values()].find(
      ({ prev_events, type }) => type === "m.room.create" && prev_events.length === 0
    )
    return { create, isRejected: (id) => this.rejected.has(id) }
  }

  resolved(ids: ReadonlyArray<EventId>): StateMap {
    const states = ids.flatMap((id) => this.statesAfter.get(id) ?? [])
    if (states.length === 0) return new Map()
    return resolveStates(this.version.stateResolution, states, this.lookup)
  }

  lookupIn(state: StateMap): StateLookup {
    return (type, stateKey) => {
      const id = state.get(stateKeyOf(type, stateKey))
      return id === undefined ? undefined : this.events.get(id)
    }
  }

  refusal(event: Event, before: StateMap): string | undefined {
    const authEvents = event.auth_events.flatMap((id) => this.events.get(id) ?? [])
    const refusal =
      this.version.authoriseByAuthEvents(event, authEvents, this.context) ??
      this.version.authorise(event, this.lookupIn(before))
    return refusal?.rule
  }

  /** Gives the event its place; what the server knows only as an outlier is judged by its auth events. */
  place({ a, event_id }: FixtureEvent, { outlier, state_before }: Fate): StateMap | undefined {
    const event = this.events.get(event_id)!
    if (outlier === true) {
      const authEvents = event.auth_events.map((id) => this.events.get(id)!)
      const refusal = this.version.authoriseByAuthEvents(event, authEvents, this.context)
      if (refusal !== undefined) this.rejected.set(event_id, refusal.rule)
      return undefined
    }
    const isKnown = event.prev_events.every((id) => this.statesAfter.has(id))
    const before = isKnown
      ? this.resolved(event.prev_events)
      : stateBefore(this.room, (state_before ?? a?.state_before)!)
    const refusal = this.refusal(event, before)
    if (refusal !== undefined) this.rejected.set(event_id, refusal)
    const after =
      event.state_key === undefined || refusal !== undefined
        ? before
        : new Map([...before, [stateKeyOf(event.type, event.state_key), event_id]])
    this.statesAfter.set(event_id, after)
    return before
  }
}

/** The events that a server has, in an order in which none comes before those that it follows or rests on. */
const inOrder = (room: FixtureRoom, server: "a" | "b"): ReadonlyArray<readonly [FixtureEvent, Fate]> => {
  const known = readable(room).flatMap((event) =>
    event[server] === undefined ? [] : [[event, event[server]] as const]
  )
  return [
    ...known.filter(([, fate]) => fate.outlier === true).sort(([a], [b]) => Number(a.pdu.depth) - Number(b.pdu.depth)),
    ...known.filter(([, fate]) => fate.outlier !== true)
  ]
}

/**
 * An invite comes to the server of the invited user by itself before it comes with the events of the room. Of such a one
 * Synapse keeps the state by its auth events, even where it knows what precedes it.
 */
const isKnownByInvite = ({ pdu }: FixtureEvent, server: "a" | "b", { servers }: Fixture): boolean =>
  pdu.type === "m.room.member" &&
  (pdu.content as JsonObject).membership === "invite" &&
  (pdu.state_key as string).endsWith(`:${servers[server].server_name}`) &&
  !(pdu.sender as string).endsWith(`:${servers[server].server_name}`)

const checkStates = (version: RoomVersion, fixture: Fixture, room: FixtureRoom, server: "a" | "b"): number => {
  const computed = new ComputedRoom(version, room, server)
  let compared = 0
  for (const [event, fate] of inOrder(room, server)) {
    const before = computed.place(event, fate)
    assert.strictEqual(
      computed.rejected.has(event.event_id),
      fate.rejected !== undefined,
      `${room.scene}: ${JSON.stringify(event.pdu)} is refused: ${computed.rejected.get(event.event_id)}, by Synapse: ${fate.rejected}`
    )
    const expected = fate.state_before ?? event.a?.state_before
    if (before === undefined || expected === undefined || isKnownByInvite(event, server, fixture)) continue
    assert.deepStrictEqual(
      sorted(before),
      sorted(stateBefore(room, expected)),
      `${room.scene}: before ${event.event_id}`
    )
    compared++
  }
  const now = computed.resolved(room.forward_extremities[server])
  assert.deepStrictEqual(sorted(now), sorted(currentState(room, server)), `${room.scene}: in the end`)
  return compared
}

/** The outcome of a forgery: dropped for its form or signature, rejected, or taken. */
const fateOf = (version: RoomVersion, fixture: Fixture, room: FixtureRoom, forgery: FixtureForgery): string => {
  const stored = room.events.find(({ event_id }) => event_id === forgery.event_id)
  const read = version.fromPdu(forgery.pdu ?? stored!.pdu)
  const verified = Result.flatMap(read, (event) => version.verify(event, keysOf(fixture)))
  if (Result.isFailure(verified)) return "refused"
  const event = verified.success
  if (stored === undefined) {
    const computed = new ComputedRoom(version, room, "a")
    for (const [known, fate] of inOrder(room, "a")) computed.place(known, fate)
    return computed.refusal(event, computed.resolved(event.prev_events)) === undefined ? "taken" : "refused"
  }
  assert.strictEqual(event.event_id, forgery.event_id)
  assert.deepStrictEqual(version.toPdu(event), stored.pdu)
  return stored.a?.rejected === undefined ? "taken" : "refused"
}

/** Depths beyond 53 bits: the specification allows them before version 6, Synapse does not. */
const isDeeper = ({ id }: RoomVersion, { name }: FixtureForgery): boolean =>
  name === "depth that is too large" && Number(id) < 6

for (const id of versions) {
  describe(`Room version ${id}, as Synapse makes it`, () => {
    const version = roomVersion(id)!
    const fixture = readFixture(id)
    const all = fixture.rooms.flatMap(readable)

    it("reads and writes every event, and finds its ID", () => {
      for (const { event_id, pdu } of all) {
        const event = Result.getOrThrow(version.fromPdu(pdu))
        assert.strictEqual(event.event_id, event_id)
        assert.deepStrictEqual(version.toPdu(event), pdu)
      }
    })

    it("takes hash and signatures of every event, also once it is redacted", () => {
      const keys = keysOf(fixture)
      for (const { event_id, pdu } of all) {
        const event = Result.getOrThrow(version.fromPdu(pdu))
        const redacted = version.redact(event)
        assert.deepStrictEqual(Result.getOrThrow(version.verify(redacted, keys)), redacted, event_id)
        assert.deepStrictEqual(version.redact(redacted), redacted)
        assert.strictEqual(Result.getOrThrow(version.fromPdu(version.toPdu(redacted))).event_id, event_id)
        assert.include(
          [event, redacted].map((entry) => JSON.stringify(entry)),
          JSON.stringify(Result.getOrThrow(version.verify(event, keys)))
        )
      }
    })

    it("keeps the same keys of a redacted event as Synapse", () => {
      const redacted = all.filter((event) => event.redacted !== undefined)
      for (const event of redacted) {
        const ours = version.toPdu(version.redact(Result.getOrThrow(version.fromPdu(event.pdu))))
        assert.deepStrictEqual(ours, event.redacted)
      }
      assert.isAbove(redacted.length, 0)
    })

    for (const room of fixture.rooms) {
      for (const server of room.scene === "unfederated" ? (["a"] as const) : (["a", "b"] as const)) {
        it(`comes to the state of ${server} in the room of ${room.scene}`, () => {
          assert.isAbove(checkStates(version, fixture, room, server), 5)
        })
      }
    }

    for (const room of fixture.rooms.filter(({ forgeries }) => forgeries !== undefined)) {
      it(`accepts the same events of ${room.scene} as Synapse`, () => {
        for (const forgery of room.forgeries!) {
          if (isDeeper(version, forgery)) continue
          const stored = room.events.find(({ event_id }) => event_id === forgery.event_id)
          const expected = stored === undefined || stored.a?.rejected !== undefined ? "refused" : "taken"
          assert.strictEqual(fateOf(version, fixture, room, forgery), expected, forgery.name)
        }
      })
    }
  })
}
