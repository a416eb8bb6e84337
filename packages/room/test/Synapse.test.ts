/**
 * Rooms that two Synapse servers made while they were cut off from each other: our formats read their events, our rules reject the
 * events that Synapse rejects, and our state resolution gives the same state before every event.
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
import { resolveStates } from "@greenroom/room/testing/ResolveStates"
import { Result } from "effect"
import {
  currentState,
  type Fixture,
  type FixtureEvent,
  type FixtureForgery,
  type FixtureRoom,
  keysOf,
  type Outcome,
  readFixture,
  stateBefore
} from "./support/SynapseFixture.ts"

const versions = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]

const sorted = (state: StateMap) => [...state].sort(([a], [b]) => (a < b ? -1 : 1))

/** The room as one of the two servers has it, computed by our rules and state resolution. */
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
    for (const { event_id, pdu } of room.events) this.events.set(event_id, Result.getOrThrow(version.fromPdu(pdu)))
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

  /** Authorises the event and returns the state before it. An outlier is authorised by its auth events alone. */
  accept({ a, event_id }: FixtureEvent, { outlier, state_before }: Outcome): StateMap | undefined {
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

/** The events that a server has, each after its predecessors and auth events. */
const inOrder = (room: FixtureRoom, server: "a" | "b"): ReadonlyArray<readonly [FixtureEvent, Outcome]> => {
  const known = room.events.flatMap((event) => (event[server] === undefined ? [] : [[event, event[server]] as const]))
  return [
    ...known
      .filter(([, outcome]) => outcome.outlier === true)
      .sort(([a], [b]) => Number(a.pdu.depth) - Number(b.pdu.depth)),
    ...known.filter(([, outcome]) => outcome.outlier !== true)
  ]
}

/**
 * The server of an invited user receives the invite before the other events of the room. Synapse keeps the state by its auth events for
 * such an invite, even if it has the predecessors later.
 */
const isKnownByInvite = ({ pdu }: FixtureEvent, server: "a" | "b", { servers }: Fixture): boolean =>
  pdu.type === "m.room.member" &&
  (pdu.content as JsonObject).membership === "invite" &&
  (pdu.state_key as string).endsWith(`:${servers[server].server_name}`) &&
  !(pdu.sender as string).endsWith(`:${servers[server].server_name}`)

const checkStates = (version: RoomVersion, fixture: Fixture, room: FixtureRoom, server: "a" | "b"): number => {
  const computed = new ComputedRoom(version, room, server)
  let compared = 0
  for (const [event, outcome] of inOrder(room, server)) {
    const before = computed.accept(event, outcome)
    assert.strictEqual(
      computed.rejected.has(event.event_id),
      outcome.rejected !== undefined,
      `${room.scene}: ${JSON.stringify(event.pdu)} is refused: ${computed.rejected.get(event.event_id)}, by Synapse: ${outcome.rejected}`
    )
    const expected = outcome.state_before ?? event.a?.state_before
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

/** Whether our formats, signatures and rules accept a forged event. */
const judge = (computed: ComputedRoom, fixture: Fixture, forgery: FixtureForgery): "accepted" | "refused" => {
  const { room, version } = computed
  const stored = room.events.find(({ event_id }) => event_id === forgery.event_id)
  const read = version.fromPdu(forgery.pdu ?? stored!.pdu)
  const verified = Result.flatMap(read, (event) => version.verify(event, keysOf(fixture)))
  if (Result.isFailure(verified)) return "refused"
  const event = verified.success
  if (stored === undefined) {
    return computed.refusal(event, computed.resolved(event.prev_events)) === undefined ? "accepted" : "refused"
  }
  assert.strictEqual(event.event_id, forgery.event_id)
  assert.deepStrictEqual(version.toPdu(event), stored.pdu)
  return computed.rejected.has(event.event_id) ? "refused" : "accepted"
}

/** Whether the forgery has a depth beyond 53 bits, which the specification allows before version 6 and Synapse does not. */
const isDeeper = ({ id }: RoomVersion, { name }: FixtureForgery): boolean =>
  name === "depth that is too large" && Number(id) < 6

for (const id of versions) {
  describe(`Room version ${id}, as Synapse makes it`, () => {
    const version = roomVersion(id)!
    const fixture = readFixture(id)
    const all = fixture.rooms.flatMap(({ events }) => events)

    it("every event is read and written unchanged, and its ID is computed", () => {
      for (const { event_id, pdu } of all) {
        const event = Result.getOrThrow(version.fromPdu(pdu))
        assert.strictEqual(event.event_id, event_id)
        assert.deepStrictEqual(version.toPdu(event), pdu)
      }
    })

    it("hashes and signatures of every event are verified, redacted or not", () => {
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

    it("redaction keeps the same keys as Synapse", () => {
      const redacted = all.filter((event) => event.redacted !== undefined)
      for (const event of redacted) {
        const ours = version.toPdu(version.redact(Result.getOrThrow(version.fromPdu(event.pdu))))
        assert.deepStrictEqual(ours, event.redacted)
      }
      assert.isAbove(redacted.length, 0)
    })

    for (const room of fixture.rooms) {
      for (const server of room.scene === "unfederated" ? (["a"] as const) : (["a", "b"] as const)) {
        it(`the states in the room "${room.scene}" are those of server ${server}`, () => {
          assert.isAbove(checkStates(version, fixture, room, server), 5)
        })
      }
    }

    for (const room of fixture.rooms.filter(({ forgeries }) => forgeries !== undefined)) {
      it(`the same forged events of "${room.scene}" are accepted as by Synapse`, () => {
        const computed = new ComputedRoom(version, room, "a")
        for (const [event, outcome] of inOrder(room, "a")) computed.accept(event, outcome)
        for (const forgery of room.forgeries!) {
          if (isDeeper(version, forgery)) continue
          const stored = room.events.find(({ event_id }) => event_id === forgery.event_id)
          const expected = stored === undefined || stored.a?.rejected !== undefined ? "refused" : "accepted"
          assert.strictEqual(judge(computed, fixture, forgery), expected, forgery.name)
        }
      })
    }
  })
}
