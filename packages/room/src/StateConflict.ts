/**
 * The full conflicted set of state resolution.
 *
 * Source: "State resolution" of room versions 2 and 12.
 */
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type AuthEdges, eventsBetween } from "./AuthChains.ts"
import type { StateResolution } from "./RoomVersion.ts"

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
