/**
 * The event graph of a room: events, and the events that each of them follows (`prev_events`).
 *
 * The graph that other servers send may lie: it may have holes, depths that are made up, and even circles, since in the
 * draft's room version the origin chooses the event IDs. Nothing here recurses or runs without bound.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { PriorityQueue } from "./internal/PriorityQueue.ts"

/** The fields of an event that its place in the graph needs. */
export type GraphNode = Pick<Event, "event_id" | "prev_events" | "auth_events" | "depth" | "origin_server_ts">

/** The depth of an event after the given ones: one more than the deepest, and never more than JSON can carry. */
export const depthAfter = (prevEvents: Iterable<{ readonly depth: number }>): number => {
  let deepest = 0
  for (const prevEvent of prevEvents) if (prevEvent.depth > deepest) deepest = prevEvent.depth
  return Math.min(deepest + 1, Number.MAX_SAFE_INTEGER)
}

/** The order among events that do not depend on one another: by depth, then time, then event ID. */
const compareNodes = (a: GraphNode, b: GraphNode): number =>
  a.depth - b.depth ||
  a.origin_server_ts - b.origin_server_ts ||
  (a.event_id < b.event_id ? -1 : a.event_id > b.event_id ? 1 : 0)

/**
 * Orders items so that none comes before one of its predecessors; `compare` decides among those that are free to come
 * next, so the result does not depend on the order of the input. Predecessors that are not among the items do not count.
 * Items on or behind a circle are left out.
 */
export const topologicalSort = <A>(
  items: ReadonlyMap<EventId, A>,
  predecessors: (item: A) => Iterable<EventId>,
  compare: (a: A, b: A) => number
): ReadonlyArray<A> => allOf(sortSteps(items, predecessors, compare))

/** The result of a computation in steps. */
const allOf = <A>(steps: Generator<void, A>): A => {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

/** An item with how many of its predecessors are not sorted yet, and the items that wait for it. */
interface Waiting<A> {
  readonly item: A
  waitsFor: number
  readonly followers: Array<Waiting<A>>
}

function* sortSteps<A>(
  items: Iterable<readonly [EventId, A]>,
  predecessors: (item: A) => Iterable<EventId>,
  compare: (a: A, b: A) => number
): Generator<void, ReadonlyArray<A>> {
  const nodes = new Map<EventId, Waiting<A>>()
  for (const [id, item] of items) {
    nodes.set(id, { item, waitsFor: 0, followers: [] })
    yield
  }
  const free = new PriorityQueue<Waiting<A>>((a, b) => compare(a.item, b.item))
  for (const node of nodes.values()) {
    // A predecessor that is named twice counts twice, here and when it is sorted.
    for (const id of predecessors(node.item)) {
      const before = nodes.get(id)
      if (before === undefined) continue
      before.followers.push(node)
      node.waitsFor++
    }
    if (node.waitsFor === 0) free.push(node)
    yield
  }
  const sorted: Array<A> = []
  for (let next = free.pop(); next !== undefined; next = free.pop()) {
    sorted.push(next.item)
    for (const node of next.followers) if (--node.waitsFor === 0) free.push(node)
    yield
  }
  return sorted
}

const antecedents = ({ auth_events, prev_events }: GraphNode): ReadonlyArray<EventId> => [
  ...prev_events,
  ...auth_events
]

/**
 * The events, each once, in an order in which none comes before one that it follows or that authorises it. The same for
 * every order of the input. Events on or behind a circle are left out: no honest server makes them.
 */
export const topologicalOrder = <N extends GraphNode>(events: Iterable<N>): ReadonlyArray<N> =>
  allOf(topologicalSteps(events))

/** The same in steps, for many events: the caller decides when other work runs. */
export function* topologicalSteps<N extends GraphNode>(events: Iterable<N>): Generator<void, ReadonlyArray<N>> {
  return yield* sortSteps(byId(events), antecedents, compareNodes)
}

function* byId<N extends GraphNode>(events: Iterable<N>): Generator<readonly [EventId, N]> {
  for (const event of events) yield [event.event_id, event]
}
