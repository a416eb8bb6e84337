/**
 * State resolution over whole states, for tests. The home server stores states as changes of one another, and finds the same
 * conflicts from those changes.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type AuthEdges, authChain, authDifference } from "../AuthChains.ts"
import type { StateConflict, StateMap, StateResolution } from "../RoomVersion.ts"
import { fullConflictedSet } from "../StateConflict.ts"

interface Comparison {
  readonly unconflicted: StateMap
  readonly conflicted: ReadonlyMap<string, ReadonlyArray<EventId>>
  /** The states that hold each event in conflict: bit `n` stands for the state number `n`. */
  readonly heldBy: ReadonlyMap<EventId, bigint>
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
