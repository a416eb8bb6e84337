/**
 * The state for a server that joins with `omit_members`: all but the memberships. Memberships that authorise the rest are in the
 * auth chain, and a room without a name of its own comes with the members that it is named after.
 *
 * Source: `PUT /_matrix/federation/v2/send_join` of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"

interface State {
  readonly state: ReadonlyArray<Event>
  readonly authChain: ReadonlyArray<Event>
}

/** The most members that are named for a room without a name, beside the joining user. */
const heroes = 5

const isMember = ({ type }: Event): boolean => type === "m.room.member"

const isPresent = ({ content }: Event): boolean => content.membership === "join" || content.membership === "invite"

/** The events that authorise the given ones, of those that are known, theirs among them. */
const authorising = (given: Iterable<Event>, known: ReadonlyMap<EventId, Event>): ReadonlySet<EventId> => {
  const found = new Set<EventId>()
  const queue = [...given]
  for (let event = queue.pop(); event !== undefined; event = queue.pop()) {
    for (const id of event.auth_events) {
      const named = known.get(id)
      if (named === undefined || found.has(id)) continue
      found.add(id)
      queue.push(named)
    }
  }
  return found
}

/** The state before a join without the memberships of users that need not be known at first. */
export const essentialState = ({ authChain, state }: State, join: Event): State => {
  const others = state.filter((event) => !isMember(event))
  const members = state.filter(isMember)
  const isNamed = others.some(({ type }) => type === "m.room.name" || type === "m.room.canonical_alias")
  const shown = new Set([
    ...members.filter(({ state_key }) => state_key === join.state_key),
    ...(isNamed ? [] : members.filter(isPresent).slice(0, heroes))
  ])
  const kept = [...others, ...shown]
  const all = new Map([...state, ...authChain].map((event) => [event.event_id, event]))
  const needed = authorising([...kept, join], all)
  const inState = new Set(kept.map(({ event_id }) => event_id))
  const outside = [...all.values()].filter(({ event_id }) => !inState.has(event_id))
  return { state: kept, authChain: outside.filter(({ event_id }) => needed.has(event_id)) }
}
