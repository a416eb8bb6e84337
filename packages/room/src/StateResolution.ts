/**
 * State resolution: the one state that follows from the states after several forward extremities. Servers that have the
 * same events get the same state, in whatever order the events arrived.
 *
 * The algorithm is that of Matrix room version 2. What all states agree on stands. The rest, with the auth events that
 * only some of the states rest on, is put in order, power events first, and applied one by one as far as the
 * authorisation rules allow. The draft's clobbering by power level is a special case. Cost follows the conflicts: of
 * what is not in conflict no event is looked up unless the conflicting events rest on different auth events.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { topologicalSort } from "./EventGraph.ts"
import { powerLevels, userLevel } from "./PowerLevels.ts"
import { type RoomVersion, type StateLookup, type StateMap, stateKeyOf } from "./RoomVersion.ts"

type EventLookup = (id: EventId) => Event | undefined

type Authorise = RoomVersion["authorise"]

interface Separated {
  /** What every state has, with the same event. */
  readonly unconflicted: StateMap
  /** By state, its events that are not in all states. */
  readonly conflicted: ReadonlyArray<ReadonlyArray<EventId>>
}

const separate = (states: ReadonlyArray<StateMap>): Separated => {
  const unconflicted = new Map<string, EventId>()
  const [first, ...others] = states
  for (const [key, id] of first ?? []) {
    if (others.every((state) => state.get(key) === id)) unconflicted.set(key, id)
  }
  const conflicted = states.map((state) => {
    const ids: Array<EventId> = []
    if (state.size > unconflicted.size) for (const [key, id] of state) if (!unconflicted.has(key)) ids.push(id)
    return ids
  })
  return { unconflicted, conflicted }
}

/** The events and everything that authorises them. */
const authChain = (ids: Iterable<EventId>, event: EventLookup): ReadonlySet<EventId> => {
  const chain = new Set<EventId>(ids)
  // A set is walked in the order of insertion, what is added on the way included.
  for (const id of chain) for (const auth of event(id)?.auth_events ?? []) chain.add(auth)
  return chain
}

/** Removes from `candidates` what the auth chains of the unconflicted state hold. Walks no further than it must. */
const removeUnconflicted = (candidates: Set<EventId>, unconflicted: StateMap, event: EventLookup): void => {
  for (const id of candidates) {
    const found = event(id)
    if (found === undefined) candidates.delete(id)
    else if (found.state_key !== undefined && unconflicted.get(stateKeyOf(found.type, found.state_key)) === id) {
      candidates.delete(id)
    }
  }
  let lowest = Number.POSITIVE_INFINITY
  for (const id of candidates) lowest = Math.min(lowest, event(id)!.depth)
  const seen = new Set<EventId>()
  const power = unconflicted.get(stateKeyOf("m.room.power_levels", ""))
  if (power !== undefined) seen.add(power)
  const walk = (): void => {
    for (const id of seen) {
      if (candidates.delete(id) && candidates.size === 0) return
      const found = event(id)
      if (found !== undefined && found.depth > lowest) for (const auth of found.auth_events) seen.add(auth)
    }
  }
  if (candidates.size > 0) walk()
  if (candidates.size === 0) return
  for (const id of unconflicted.values()) seen.add(id)
  walk()
}

/** The auth events that some of the states rest on and others do not, without what is in conflict itself. */
const authDifference = ({ unconflicted, conflicted }: Separated, event: EventLookup): ReadonlySet<EventId> => {
  const chains = conflicted.map((ids) => authChain(ids, event))
  const inConflict = new Set(conflicted.flat())
  const difference = new Set<EventId>()
  for (const chain of chains) {
    for (const id of chain) if (!inConflict.has(id) && !chains.every((other) => other.has(id))) difference.add(id)
  }
  removeUnconflicted(difference, unconflicted, event)
  return difference
}

const fullConflictedSet = (separated: Separated, event: EventLookup): ReadonlyMap<EventId, Event> => {
  const ids = new Set<EventId>(separated.conflicted.flat())
  for (const id of authDifference(separated, event)) ids.add(id)
  const events = new Map<EventId, Event>()
  for (const id of ids) {
    const found = event(id)
    if (found?.state_key !== undefined) events.set(id, found)
  }
  return events
}

/** Events that can take rights away: the rest waits until they are decided. */
const isPowerEvent = (event: Event): boolean => {
  switch (event.type) {
    case "m.room.create":
    case "m.room.power_levels":
    case "m.room.join_rules":
      return event.state_key === ""
    case "m.room.member":
      return (
        event.sender !== event.state_key && (event.content.membership === "leave" || event.content.membership === "ban")
      )
    default:
      return false
  }
}

const authEventOf = (of: Event, type: string, event: EventLookup): Event | undefined => {
  for (const id of of.auth_events) {
    const auth = event(id)
    if (auth?.type === type && auth.state_key === "") return auth
  }
  return undefined
}

/** The level of the sender by the event's own auth events. */
const senderLevel = (of: Event, event: EventLookup): number =>
  userLevel(
    powerLevels(authEventOf(of, "m.room.power_levels", event), authEventOf(of, "m.room.create", event)),
    of.sender
  )

const compareAges = (a: Event, b: Event): number =>
  a.origin_server_ts - b.origin_server_ts || (a.event_id < b.event_id ? -1 : a.event_id > b.event_id ? 1 : 0)

/**
 * The power events in conflict, with those of their auth events that are in conflict too: every event after those that
 * authorise it, else the higher power level first, then the earlier, then the smaller event ID.
 */
const powerOrder = (conflicted: ReadonlyMap<EventId, Event>, event: EventLookup): ReadonlyArray<Event> => {
  const chosen = new Map<EventId, Event>()
  for (const [id, each] of conflicted) if (isPowerEvent(each)) chosen.set(id, each)
  for (const each of chosen.values()) {
    for (const id of each.auth_events) {
      const auth = conflicted.get(id)
      if (auth !== undefined) chosen.set(id, auth)
    }
  }
  const levels = new Map<EventId, number>()
  for (const [id, each] of chosen) levels.set(id, senderLevel(each, event))
  return topologicalSort(
    chosen,
    (each) => each.auth_events,
    (a, b) => levels.get(b.event_id)! - levels.get(a.event_id)! || compareAges(a, b)
  )
}

/** The power levels event in force and those before it, each the auth event of the one after: its place, oldest least. */
const mainlineOf = (head: Event | undefined, event: EventLookup): ReadonlyMap<EventId, number> => {
  const line = new Set<EventId>()
  for (let at = head; at !== undefined && !line.has(at.event_id); at = authEventOf(at, "m.room.power_levels", event)) {
    line.add(at.event_id)
  }
  const places = new Map<EventId, number>()
  let place = line.size
  for (const id of line) places.set(id, place--)
  return places
}

/** Events by the power levels that they know of, the oldest first, then by age. */
const mainlineOrder = (
  events: ReadonlyArray<Event>,
  head: Event | undefined,
  event: EventLookup
): ReadonlyArray<Event> => {
  const mainline = mainlineOf(head, event)
  const places = new Map<EventId, number>(mainline)
  const placeOf = (of: Event): number => {
    const path = new Set<EventId>()
    let at: Event | undefined = of
    while (at !== undefined && !places.has(at.event_id) && !path.has(at.event_id)) {
      path.add(at.event_id)
      at = authEventOf(at, "m.room.power_levels", event)
    }
    const place = at === undefined ? 0 : (places.get(at.event_id) ?? 0)
    for (const id of path) places.set(id, place)
    return place
  }
  return [...events].sort((a, b) => placeOf(a) - placeOf(b) || compareAges(a, b))
}

/** Applies events to `changes` in turn, leaving out those that the state so far does not allow. */
const applyAllowed = (
  events: ReadonlyArray<Event>,
  unconflicted: StateMap,
  changes: Map<string, EventId>,
  event: EventLookup,
  authorise: Authorise
): void => {
  for (const each of events) {
    const own = new Map<string, Event>()
    for (const id of each.auth_events) {
      const auth = event(id)
      if (auth?.state_key !== undefined) own.set(stateKeyOf(auth.type, auth.state_key), auth)
    }
    const state: StateLookup = (type, stateKey) => {
      const key = stateKeyOf(type, stateKey)
      const id = changes.get(key) ?? unconflicted.get(key)
      return id === undefined ? own.get(key) : event(id)
    }
    if (authorise(each, state) === undefined) changes.set(stateKeyOf(each.type, each.state_key!), each.event_id)
  }
}

/** State resolution by these authorisation rules. */
export const stateResolution =
  (authorise: Authorise): RoomVersion["resolveState"] =>
  (states, event) => {
    if (states.length === 1) return states[0]!
    const separated = separate(states)
    const { unconflicted } = separated
    if (separated.conflicted.every((ids) => ids.length === 0)) return unconflicted

    const conflicted = fullConflictedSet(separated, event)
    const changes = new Map<string, EventId>()
    const powerEvents = powerOrder(conflicted, event)
    applyAllowed(powerEvents, unconflicted, changes, event, authorise)

    const decided = new Set(powerEvents.map((each) => each.event_id))
    const rest = [...conflicted.values()].filter((each) => !decided.has(each.event_id))
    const powerKey = stateKeyOf("m.room.power_levels", "")
    const head = changes.get(powerKey) ?? unconflicted.get(powerKey)
    const ordered = mainlineOrder(rest, head === undefined ? undefined : event(head), event)
    applyAllowed(ordered, unconflicted, changes, event, authorise)

    return new Map([...changes, ...unconflicted])
  }
