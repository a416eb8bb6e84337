/**
 * The conflicts of states, found by comparing them whole, as tests and tools do. A server that stores its states as changes
 * of one another finds the same from those changes.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type AuthEdges, authChain, authDifference, eventsBetween } from "./AuthChains.ts"
import type { StateConflict, StateMap, StateResolution } from "./RoomVersion.ts"

/** The states that hold each event in conflict: bit `n` stands for the state number `n`. */
export type HeldBy = ReadonlyMap<EventId, bigint>

/**
 * The full conflicted set: the events in conflict, and of their auth chains what the `extent` of the resolution adds.
 * `difference` is the auth difference, without what all states rest on by the events that they agree on.
 */
export const fullConflictedSet = (
  extent: StateResolution["extent"],
  conflicted: ReadonlySet<EventId>,
  difference: Iterable<EventId>,
  edges: AuthEdges
): ReadonlySet<EventId> => {
  const set = new Set<EventId>(conflicted)
  if (extent === "conflicted") return set
  for (const id of difference) set.add(id)
  return extent === "authDifference" ? set : set.union(eventsBetween(conflicted, edges))
}

interface Comparison {
  readonly unconflicted: StateMap
  readonly conflicted: ReadonlyMap<string, ReadonlyArray<EventId>>
  readonly heldBy: HeldBy
}

const compare = (states: ReadonlyArray<StateMap>): Comparison => {
  const unconflicted = new Map<string, EventId>()
  const conflicted = new Map<string, ReadonlyArray<EventId>>()
  const heldBy = new Map<EventId, bigint>()
  for (const key of new Set(states.flatMap((state) => [...state.keys()]))) {
    const ids = states.map((state) => state.get(key))
    if (ids[0] !== undefined && ids.every((id) => id === ids[0])) {
      unconflicted.set(key, ids[0])
      continue
    }
    conflicted.set(key, [...new Set(ids.filter((id) => id !== undefined))])
    ids.forEach((id, n) => {
      if (id !== undefined) heldBy.set(id, (heldBy.get(id) ?? 0n) | (1n << BigInt(n)))
    })
  }
  return { unconflicted, conflicted, heldBy }
}

/** The one state that follows from several. `event` knows every event that one of the states or their auth chains names. */
export const resolveStates = (
  resolution: StateResolution,
  states: ReadonlyArray<StateMap>,
  event: (id: EventId) => Event | undefined
): StateMap => {
  const { conflicted, heldBy, unconflicted } = compare(states)
  if (conflicted.size === 0) return unconflicted
  const edges: AuthEdges = (id) => event(id)?.auth_events ?? []
  const agreed = authChain(unconflicted.values(), edges)
  const difference = [...authDifference(heldBy, states.length, edges)].filter((id) => !agreed.has(id))
  const conflict: StateConflict = {
    conflicted,
    fullConflictedSet: fullConflictedSet(resolution.extent, new Set(heldBy.keys()), difference, edges),
    unconflicted: (key) => unconflicted.get(key)
  }
  return new Map([...resolution.resolve(conflict, event), ...unconflicted])
}
