/**
 * State resolution of room version 1: keys that states disagree about are decided by depth. First power levels, then join
 * rules, then memberships, each by the state that those before them leave; then all other keys.
 *
 * Source: "State resolution" of room version 1.
 */
import { hash } from "node:crypto"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type RoomVersion, type StateLookup, type StateResolution, splitStateKey, stateKeyOf } from "./RoomVersion.ts"

type Authorise = RoomVersion["authorise"]

/** The deepest first; of equals that with the smallest SHA-1 of its ID. */
const deepestFirst = (events: ReadonlyArray<Event>): ReadonlyArray<Event> =>
  events
    .map((event) => ({ event, digest: hash("sha1", event.event_id) }))
    .sort((a, b) => b.event.depth - a.event.depth || (a.digest < b.digest ? -1 : 1))
    .map(({ event }) => event)

/**
 * The last of the events, the least deep first, up to the first one that the event before it does not allow. The first event is
 * not checked.
 */
const lastAllowed = (events: ReadonlyArray<Event>, state: StateLookup, authorise: Authorise): Event | undefined => {
  let [last, ...rest] = deepestFirst(events).toReversed()
  for (const next of rest) {
    const before = last!
    const withIt: StateLookup = (type, stateKey) =>
      type === before.type && stateKey === before.state_key ? before : state(type, stateKey)
    if (authorise(next, withIt) !== undefined) return last
    last = next
  }
  return last
}

/** The deepest event that is allowed; the least deep where none is. */
const deepestAllowed = (events: ReadonlyArray<Event>, state: StateLookup, authorise: Authorise): Event | undefined => {
  const ordered = deepestFirst(events)
  return ordered.find((event) => authorise(event, state) === undefined) ?? ordered.at(-1)
}

/** The types that are resolved one after the other. Events of other types do not change authorisation. */
const passes = ["m.room.power_levels", "m.room.join_rules", "m.room.member"] as const

/** The state resolution of version 1 by these authorisation rules. */
export const stateResolutionV1 = (authorise: Authorise): StateResolution => ({
  extent: "conflicted",
  resolve: ({ conflicted, unconflicted }, event) => {
    const resolved = new Map<string, EventId>()
    const open = new Map<string, ReadonlyArray<Event>>()
    for (const [key, ids] of conflicted) {
      // A key that only some of the states have is unconflicted here.
      if (ids.length === 1) resolved.set(key, ids[0]!)
      else
        open.set(
          key,
          ids.flatMap((id) => event(id) ?? [])
        )
    }
    const state: StateLookup = (type, stateKey) => {
      const key = stateKeyOf(type, stateKey)
      const id = resolved.get(key) ?? unconflicted(key)
      return id === undefined ? undefined : event(id)
    }
    const decide = (isOfPass: (type: string) => boolean, pick: typeof lastAllowed): void => {
      const decided = [...open].filter(([key]) => isOfPass(splitStateKey(key)[0]))
      const picked = decided.map(([key, events]) => [key, pick(events, state, authorise)?.event_id] as const)
      for (const [key, id] of picked) {
        open.delete(key)
        if (id !== undefined) resolved.set(key, id)
      }
    }
    for (const pass of passes) decide((type) => type === pass, lastAllowed)
    decide(() => true, deepestAllowed)
    return resolved
  }
})
