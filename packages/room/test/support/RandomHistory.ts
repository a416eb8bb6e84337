/**
 * Random histories of a room on three servers that exchange events only at times, for tests of properties: state resolution
 * converges, and no user gains power.
 */
import { assert } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import type { RoomVersion, StateMap } from "@greenroom/room/RoomVersion"
import { resolveStates } from "@greenroom/room/testing/ResolveStates"
import * as fc from "fast-check"
import { Replica } from "./Replica.ts"
import { user } from "./TestRoom.ts"

export const alice = user("alice")
export const bob = user("bob", "two.example")
export const carol = user("carol", "three.example")
export const dave = user("dave")
export const mallory = user("mallory", "two.example")

export const servers = ["one.example", "two.example", "three.example"]
export const users = [alice, bob, carol, dave, mallory]

/** An attempt of a user to send an event. The numbers are indexes of users, events and values. */
export interface Attempt {
  readonly server: number
  readonly sender: number
  readonly target: number
  readonly action: number
  readonly level: number
  readonly time: number
  /** The event follows earlier events of the graph, and has auth events from the state at yet another one. */
  readonly hostile: boolean
  readonly prev: ReadonlyArray<number>
  readonly auth: number
  /** Afterwards the server `to` receives all events of the server `from`. */
  readonly sync: readonly [to: number, from: number] | undefined
}

/** `actions`: how many actions there are to choose from. */
export const randomAttempts = (actions: number, maxLength: number): fc.Arbitrary<ReadonlyArray<Attempt>> =>
  fc.array(
    fc.record<Attempt>({
      server: fc.nat(servers.length - 1),
      sender: fc.nat(users.length - 1),
      target: fc.nat(users.length - 1),
      action: fc.nat(actions - 1),
      level: fc.constantFrom(0, 10, 50, 51, 100, 101),
      time: fc.nat(20),
      hostile: fc.boolean(),
      prev: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
      auth: fc.nat(),
      sync: fc.option(fc.tuple(fc.nat(2), fc.nat(2)), { nil: undefined })
    }),
    { maxLength }
  )

/** The events that the event of an attempt follows, and the state from which its auth events come. */
export const positionOf = (replica: Replica, { auth, hostile, prev }: Attempt) => {
  if (!hostile) return { prev: replica.extremities, authState: replica.stateAfter(replica.extremities) }
  const known = [...replica.events.keys()]
  return {
    prev: [...new Set(prev.map((entry) => known[entry % known.length]!))],
    authState: replica.stateAfter([known[auth % known.length]!])
  }
}

export interface Simulation {
  readonly version: RoomVersion
  /** The events that all servers have before the first attempt. */
  readonly initialEvents: () => ReadonlyArray<Event>
  /** The event of an attempt on the server that makes it. */
  readonly build: (replica: Replica, attempt: Attempt, index: number) => Event
}

interface History {
  readonly replicas: ReadonlyArray<Replica>
  readonly events: ReadonlyArray<Event>
}

/** Makes the attempts in their order. Events that an honest server would refuse to send are left out. */
export const simulate = ({ build, initialEvents, version }: Simulation, attempts: ReadonlyArray<Attempt>): History => {
  const events = [...initialEvents()]
  const replicas = servers.map(() => new Replica(version))
  for (const replica of replicas) for (const event of events) replica.receive(event)
  for (const [index, attempt] of attempts.entries()) {
    const replica = replicas[attempt.server]!
    const event = build(replica, attempt, index)
    if (attempt.hostile || replica.wouldAllow(event)) {
      events.push(event)
      replica.receive(event)
    }
    if (attempt.sync === undefined) continue
    const [to, from] = attempt.sync
    for (const entry of replicas[from]!.events.values()) replicas[to]!.receive(entry)
  }
  return { replicas, events }
}

/** Numbers by which {@link assertConvergence} shuffles events. */
export const orders = fc.array(fc.nat(1_000), { minLength: 64, maxLength: 64 })

/** Servers that receive all events, in different orders, have the same state and reject the same events. */
export const assertConvergence = (
  simulation: Simulation,
  attempts: ReadonlyArray<Attempt>,
  order: ReadonlyArray<number>
): void => {
  const { replicas, events } = simulate(simulation, attempts)
  for (const replica of replicas) for (const event of events) replica.receive(event)
  const shuffled = events
    .map((event, index) => [order[index % order.length]! * (index + 1), event] as const)
    .sort(([a], [b]) => (a % 101) - (b % 101))
    .map(([, event]) => event)
  const newcomers = [new Replica(simulation.version), new Replica(simulation.version)]
  for (const event of shuffled) newcomers[0]!.receive(event)
  for (const event of [...events].reverse()) newcomers[1]!.receive(event)
  const all = [...replicas, ...newcomers]
  for (const replica of all) {
    assert.strictEqual(replica.events.size, events.length)
    assert.deepStrictEqual(replica.summary, all[0]!.summary)
    assert.deepStrictEqual([...replica.rejected].sort(), [...all[0]!.rejected].sort())
  }
}

/** The result of state resolution does not depend on the order of the states, and a state resolved with itself stays as it is. */
export const assertCommutativity = (simulation: Simulation, attempts: ReadonlyArray<Attempt>): void => {
  const { replicas, events } = simulate(simulation, attempts)
  const states = replicas.map((replica) => replica.state)
  const lookup = new Map(events.map((event) => [event.event_id, event]))
  const resolve = (order: ReadonlyArray<StateMap>) =>
    [...resolveStates(simulation.version.stateResolution, order, (id: EventId) => lookup.get(id))].sort()
  assert.deepStrictEqual(resolve(states), resolve([...states].reverse()))
  assert.deepStrictEqual(resolve([states[0]!, states[0]!]), [...states[0]!].sort())
}

/** The power level of each user on a server that has received all events. */
export const levelsAfter = (simulation: Simulation, attempts: ReadonlyArray<Attempt>): ((userId: UserId) => number) => {
  const { replicas, events } = simulate(simulation, attempts)
  const replica = replicas[0]!
  for (const event of events) replica.receive(event)
  return simulation.version.levels(replica.lookupIn(replica.state)).user
}

/** Mallory may try anything; attempts of the others that name mallory name dave instead. */
export const withoutHelpForMallory = (attempt: Attempt): Attempt =>
  users[attempt.sender] !== mallory && users[attempt.target] === mallory
    ? { ...attempt, target: users.indexOf(dave) }
    : attempt
