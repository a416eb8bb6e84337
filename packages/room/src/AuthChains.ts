/**
 * Auth chains: the events that a state event rests on, by its `auth_events` and theirs in turn. Pure functions over edges
 * that the caller has at hand; each is linear in the events that it visits.
 */
import type { EventId } from "@greenroom/protocol/Identifiers"

/** The auth events of an event; none for one that is not known. */
export type AuthEdges = (id: EventId) => ReadonlyArray<EventId>

/** The events and their auth chains. */
export const authChain = (ids: Iterable<EventId>, edges: AuthEdges): ReadonlySet<EventId> => {
  const chain = new Set<EventId>(ids)
  // Iteration follows the order of insertion and includes the elements added on the way.
  for (const id of chain) for (const auth of edges(id)) chain.add(auth)
  return chain
}

/** The chain in an order in which each event stands before its auth events. Events on a circle are left out. */
const topmostFirst = (chain: ReadonlySet<EventId>, edges: AuthEdges): ReadonlyArray<EventId> => {
  const waitsFor = new Map<EventId, number>()
  for (const id of chain) for (const auth of edges(id)) waitsFor.set(auth, (waitsFor.get(auth) ?? 0) + 1)
  const order: Array<EventId> = []
  for (const id of chain) if (!waitsFor.has(id)) order.push(id)
  for (const id of order) {
    for (const auth of edges(id)) {
      const left = waitsFor.get(auth)! - 1
      waitsFor.set(auth, left)
      if (left === 0) order.push(auth)
    }
  }
  return order
}

/**
 * The events that are in the auth chains of some states and not of all: the auth difference. `heldBy` says of each event
 * in conflict which states hold it, bit `n` for the state number `n` of `states`. Events in conflict are left out.
 */
export const authDifference = (
  heldBy: ReadonlyMap<EventId, bigint>,
  states: number,
  edges: AuthEdges
): ReadonlySet<EventId> => {
  const all = (1n << BigInt(states)) - 1n
  const inChainsOf = new Map(heldBy)
  const difference = new Set<EventId>()
  for (const id of topmostFirst(authChain(heldBy.keys(), edges), edges)) {
    const chains = inChainsOf.get(id)!
    if (chains !== all && !heldBy.has(id)) difference.add(id)
    for (const auth of edges(id)) inChainsOf.set(auth, (inChainsOf.get(auth) ?? 0n) | chains)
  }
  return difference
}

/** The events on the paths from one of the events to another: the conflicted state subgraph, its ends included. */
export const eventsBetween = (ids: ReadonlySet<EventId>, edges: AuthEdges): ReadonlySet<EventId> => {
  const between = new Set<EventId>(ids)
  for (const id of topmostFirst(authChain(ids, edges), edges).toReversed()) {
    if (edges(id).some((auth) => between.has(auth))) between.add(id)
  }
  return between
}
