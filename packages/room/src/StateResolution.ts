/**
 * State resolution: the one state that follows from the states after several forward extremities. Servers that have the
 * same events get the same state, in whatever order the events arrived.
 *
 * The algorithm is that of room versions 2 to 11, and with `isRebased` that of version 12. Unconflicted state is kept. The
 * conflicted state, with the auth difference, is put in order, power events first, and applied one by one as far as the
 * authorisation rules allow. The draft's clobbering by power level is a special case. Its cost follows the conflict.
 *
 * Source: "State resolution" of room versions 2 and 12.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { topologicalSort } from "./EventGraph.ts"
import {
  type EventFormat,
  type RoomVersion,
  type StateConflict,
  type StateLookup,
  type StateResolution,
  stateKeyOf
} from "./RoomVersion.ts"

type EventLookup = (id: EventId) => Event | undefined

/** The rules of a version that its state resolution applies. */
export interface ResolutionRules {
  readonly authorise: RoomVersion["authorise"]
  readonly levels: RoomVersion["levels"]
  /** The m.room.create of a room, where events do not name it among their auth events. */
  readonly createEventId: EventFormat["createEventId"]
  /**
   * True in version 12: events in conflict are applied to what they themselves rest on, not to what all states agree on,
   * and those between them in auth chains are applied with them.
   */
  readonly isRebased: boolean
}

const powerLevelsKey = stateKeyOf("m.room.power_levels", "")

const fullConflictedSet = (conflict: StateConflict, event: EventLookup): ReadonlyMap<EventId, Event> => {
  const events = new Map<EventId, Event>()
  for (const id of conflict.fullConflictedSet) {
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

/** The state event of this type and key that an event itself names. */
const namedBy = (of: Event, type: string, stateKey: string, event: EventLookup): Event | undefined => {
  for (const id of of.auth_events) {
    const auth = event(id)
    if (auth?.type === type && auth.state_key === stateKey) return auth
  }
  return undefined
}

const powerLevelsNamedBy = (of: Event, event: EventLookup): Event | undefined =>
  namedBy(of, "m.room.power_levels", "", event)

/** The state that an event itself rests on. */
const ownState =
  (of: Event, { createEventId }: ResolutionRules, event: EventLookup): StateLookup =>
  (type, stateKey) => {
    const create = type === "m.room.create" && stateKey === "" ? createEventId(of.room_id) : undefined
    return create === undefined ? namedBy(of, type, stateKey, event) : event(create)
  }

const compareAges = (a: Event, b: Event): number =>
  a.origin_server_ts - b.origin_server_ts || (a.event_id < b.event_id ? -1 : a.event_id > b.event_id ? 1 : 0)

/** Levels may be infinite. */
const compareLevels = (a: number, b: number): number => (a === b ? 0 : a < b ? -1 : 1)

/**
 * The power events in conflict, with those of their auth events that are in conflict too: every event after those that
 * authorise it, else the higher power level first, then the earlier, then the smaller event ID.
 */
const powerOrder = (
  conflicted: ReadonlyMap<EventId, Event>,
  rules: ResolutionRules,
  event: EventLookup
): ReadonlyArray<Event> => {
  const chosen = new Map<EventId, Event>()
  for (const [id, entry] of conflicted) if (isPowerEvent(entry)) chosen.set(id, entry)
  for (const entry of chosen.values()) {
    for (const id of entry.auth_events) {
      const auth = conflicted.get(id)
      if (auth !== undefined) chosen.set(id, auth)
    }
  }
  const levels = new Map<EventId, number>()
  for (const [id, entry] of chosen) levels.set(id, rules.levels(ownState(entry, rules, event)).user(entry.sender))
  return topologicalSort(
    chosen,
    (entry) => entry.auth_events,
    (a, b) => compareLevels(levels.get(b.event_id)!, levels.get(a.event_id)!) || compareAges(a, b)
  )
}

/** The mainline: the power levels event in force and its predecessors among auth events, with positions from 1 for the oldest. */
const mainlineOf = (head: Event | undefined, event: EventLookup): ReadonlyMap<EventId, number> => {
  const line = new Set<EventId>()
  for (let at = head; at !== undefined && !line.has(at.event_id); at = powerLevelsNamedBy(at, event)) {
    line.add(at.event_id)
  }
  const positions = new Map<EventId, number>()
  let position = line.size
  for (const id of line) positions.set(id, position--)
  return positions
}

/** Orders events by the mainline position of the power levels that they name, oldest first, then by age. */
const mainlineOrder = (
  events: ReadonlyArray<Event>,
  head: Event | undefined,
  event: EventLookup
): ReadonlyArray<Event> => {
  const mainline = mainlineOf(head, event)
  const positions = new Map<EventId, number>(mainline)
  const positionOf = (of: Event): number => {
    const path = new Set<EventId>()
    let at: Event | undefined = of
    while (at !== undefined && !positions.has(at.event_id) && !path.has(at.event_id)) {
      path.add(at.event_id)
      at = powerLevelsNamedBy(at, event)
    }
    const position = at === undefined ? 0 : (positions.get(at.event_id) ?? 0)
    for (const id of path) positions.set(id, position)
    return position
  }
  return events
    .map((entry) => ({ entry, position: positionOf(entry) }))
    .sort((a, b) => a.position - b.position || compareAges(a.entry, b.entry))
    .map(({ entry }) => entry)
}

/** Applies events to `changes` in turn, leaving out those that the state so far does not allow. */
const applyAllowed = (
  events: ReadonlyArray<Event>,
  unconflicted: StateConflict["unconflicted"],
  changes: Map<string, EventId>,
  event: EventLookup,
  rules: ResolutionRules
): void => {
  for (const entry of events) {
    const own = ownState(entry, rules, event)
    const state: StateLookup = (type, stateKey) => {
      const key = stateKeyOf(type, stateKey)
      const id = changes.get(key) ?? unconflicted(key)
      return id === undefined ? own(type, stateKey) : event(id)
    }
    if (rules.authorise(entry, state) === undefined)
      changes.set(stateKeyOf(entry.type, entry.state_key!), entry.event_id)
  }
}

/** State resolution by these rules. */
export const stateResolution = (rules: ResolutionRules): StateResolution => ({
  extent: rules.isRebased ? "authDifferenceAndSubgraph" : "authDifference",
  resolve: (conflict, event) => {
    const base: StateConflict["unconflicted"] = rules.isRebased ? () => undefined : conflict.unconflicted
    const conflicted = fullConflictedSet(conflict, event)
    const changes = new Map<string, EventId>()
    const powerEvents = powerOrder(conflicted, rules, event)
    applyAllowed(powerEvents, base, changes, event, rules)

    const decided = new Set(powerEvents.map((powerEvent) => powerEvent.event_id))
    const rest = [...conflicted.values()].filter((entry) => !decided.has(entry.event_id))
    const head = changes.get(powerLevelsKey) ?? base(powerLevelsKey)
    const ordered = mainlineOrder(rest, head === undefined ? undefined : event(head), event)
    applyAllowed(ordered, base, changes, event, rules)

    for (const key of changes.keys()) if (conflict.unconflicted(key) !== undefined) changes.delete(key)
    return changes
  }
})
