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

function* sortSteps<A>(
  items: ReadonlyMap<EventId, A>,
  predecessors: (item: A) => Iterable<EventId>,
  compare: (a: A, b: A) => number
): Generator<void, ReadonlyArray<A>> {
  const waitsFor = new Map<EventId, number>()
  const followers = new Map<EventId, Array<EventId>>()
  const free = new PriorityQueue<readonly [EventId, A]>((a, b) => compare(a[1], b[1]))
  for (const [id, item] of items) {
    let count = 0
    for (const before of new Set(predecessors(item))) {
      if (!items.has(before)) continue
      count++
      const list = followers.get(before)
      if (list === undefined) followers.set(before, [id])
      else list.push(id)
    }
    if (count === 0) free.push([id, item])
    else waitsFor.set(id, count)
    yield
  }
  const sorted: Array<A> = []
  for (let next = free.pop(); next !== undefined; next = free.pop()) {
    sorted.push(next[1])
    for (const id of followers.get(next[0]) ?? []) {
      const left = waitsFor.get(id)! - 1
      waitsFor.set(id, left)
      if (left === 0) free.push([id, items.get(id)!])
    }
    yield
  }
  return sorted
}

function* antecedents(node: GraphNode): Generator<EventId> {
  yield* node.prev_events
  yield* node.auth_events
}

/**
 * The events, each once, in an order in which none comes before one that it follows or that authorises it. The same for
 * every order of the input. Events on or behind a circle are left out: no honest server makes them.
 */
export const topologicalOrder = <N extends GraphNode>(events: Iterable<N>): ReadonlyArray<N> =>
  allOf(topologicalSteps(events))

/** The same in steps, for many events: the caller decides when other work runs. */
export function* topologicalSteps<N extends GraphNode>(events: Iterable<N>): Generator<void, ReadonlyArray<N>> {
  const byId = new Map<EventId, N>()
  for (const event of events) {
    byId.set(event.event_id, event)
    yield
  }
  return yield* sortSteps(byId, antecedents, compareNodes)
}
