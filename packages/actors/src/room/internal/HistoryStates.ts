/**
 * Who may read back-filled events: the history visibility and the memberships of our users in the state before each of them.
 * The rest of that state is not kept.
 *
 * The states of events that follow what was placed here, as after a leave, follow from ours. Before the first of the others the server
 * that gave the events is asked for the state, and again where the predecessors of an event are elsewhere, or differ in what decides. No
 * other server is asked: one that has the events could show them to anybody, and gains nothing by a state that it makes up. A stretch that
 * leads without a change to the one before, of the same server, needs no question.
 *
 * Source: "Room history visibility" of the client-server specification; "Retrieving events" of the server-server one.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { EventStatus, type StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { Effect, Option, Result } from "effect"
import { answersTimeoutOrElse, withAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { visibilityOf, visibilityOrder } from "../HistoryVisibility.ts"
import { isRefusal, RemoteFailure, RemoteRooms } from "../RemoteRooms.ts"
import type { RoomIntake } from "./RoomIntake.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"
import type { RoomStep } from "./RoomStep.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** What of a state is kept, by state key. Without an event that sets it the visibility is `shared`. */
type Part = ReadonlyMap<string, Event>

/** How often the state is asked for in one stretch of history. */
const maxQuestions = 5
/** Up to how many unknown events of a state are fetched one by one, and how many of them at a time. */
const maxSingly = 50
const atOnce = 4
/** How many bytes the answers to the questions of one stretch may have, and how long they may take. */
const maxBytes = 16 * 1024 * 1024
const questionsTimeout = "10 seconds"
/** How long a server may take to name the events of a state; then they are asked for themselves. */
const idsTimeout = "4 seconds"

const visibilityKey = stateKeyOf("m.room.history_visibility", "")
/** What the keys of memberships begin with. */
const memberKeys = stateKeyOf("m.room.member", "")

/** The states before events, and the events of them that were not known here. */
export interface FoundStates {
  readonly before: ReadonlyMap<EventId, Part>
  readonly fetched: ReadonlyArray<Event>
}

/** The first event of a stretch, the server that gave it, and what is kept of the state before it. */
interface Beginning {
  readonly first: EventId
  readonly server: ServerName
  readonly part: Part
}

export const makeHistoryStates = Effect.fnUntraced(function* (writer: RoomWriter, { graph }: RoomIntake) {
  const { nextChain, roomId, serverName, withNids } = writer
  const remote = yield* RemoteRooms
  const events = yield* EventStore
  const states = yield* StateStore
  /** The beginning of the last stretch: who reads on comes to what is before it. */
  let beginning: Beginning | undefined

  const keyOf = ({ state_key, type }: Event): string | undefined => {
    if (state_key === undefined) return undefined
    const key = stateKeyOf(type, state_key)
    const isOurs = type === "m.room.member" && serverNameOf(state_key as UserId) === serverName
    return isOurs || key === visibilityKey ? key : undefined
  }

  const isKept = (key: string): boolean =>
    key === visibilityKey || (key.startsWith(memberKeys) && key.endsWith(`:${serverName}`))

  const partOf = (state: Iterable<Event>): Part => {
    const part = new Map<string, Event>()
    for (const event of state) {
      const key = keyOf(event)
      if (key !== undefined) part.set(key, event)
    }
    return part
  }

  /** What is kept of the state before an event, as the server gives it. Fails if that is not certain. */
  const partAt = Effect.fnUntraced(function* (room: RoomState, server: ServerName, at: EventId) {
    const { version } = room
    const whole = Effect.map(remote.stateAt(server, version, roomId, at), ({ state }) => partOf(state))
    if (isDraft(version)) return yield* whole
    /** A server that gave the IDs has the state, though it refuses the rest. */
    const due = <A>(answer: Effect.Effect<A, RemoteFailure>) =>
      Effect.mapError(answer, (failure) =>
        failure.isOwnLimit === true
          ? failure
          : new RemoteFailure({ destination: failure.destination, reason: failure.reason })
      )
    const answer = yield* Effect.result(
      answersTimeoutOrElse(remote.stateIds(server, version, roomId, at), {
        duration: idsTimeout,
        orElse: () => new RemoteFailure({ destination: server, reason: `no IDs of the state within ${idsTimeout}` })
      })
    )
    // A server that cannot answer `/state_ids` may still answer `/state`.
    if (Result.isFailure(answer)) return yield* isRefusal(answer.failure) ? answer.failure : whole
    const ids = answer.success
    const { part, unknown } = yield* events.visibilityPart(room.roomNid, ids, serverName)
    const known = yield* graph.known(room, [...part, ...unknown.filter((id) => room.recent.has(id))])
    const found = partOf([...known.values()].map(({ event }) => event))
    const missing = unknown.filter((id) => !room.recent.has(id))
    if (missing.length > maxSingly) return found.has(visibilityKey) ? found : yield* due(whole)
    const fetched = yield* Effect.forEach(
      missing,
      (id) => {
        const event = due(remote.event(server, version, roomId, id))
        // A membership that is missing shows less than there is; a missing visibility would show more.
        return found.has(visibilityKey) ? Effect.option(event) : Effect.asSome(event)
      },
      { concurrency: atOnce }
    )
    return new Map([...found, ...partOf(fetched.flatMap((event) => (event._tag === "Some" ? [event.value] : [])))])
  })

  /** What is kept of the states after those predecessors of the events that were placed here. */
  const partsAfterOurs = Effect.fnUntraced(function* (room: RoomState, stretch: ReadonlyArray<Event>) {
    const inside = new Set(stretch.map(({ event_id }) => event_id))
    const outside = stretch.flatMap(({ prev_events }) => prev_events.filter((id) => !inside.has(id)))
    const placed = [...(yield* graph.known(room, outside))].filter(([, { after }]) => after !== undefined)
    const parts = new Map<EventId, Part>()
    for (const [id, { after }] of placed.slice(0, maxQuestions)) {
      const kept = [...(yield* states.readIds(after!))].filter(([key]) => isKept(key))
      const known = yield* graph.known(
        room,
        kept.map(([, value]) => value.id)
      )
      parts.set(id, partOf([...known.values()].map(({ event }) => event)))
    }
    return parts
  })

  /** What is kept of the state before all events of a stretch, if it is the same as at the known beginning after it. */
  const unchangedPart = (server: ServerName, ends: ReadonlyArray<StreamedEvent>, stretch: ReadonlyArray<Event>) => {
    const end = ends.find(({ event }) => event.event_id === beginning?.first)
    if (beginning?.server !== server || end === undefined || firstOf(stretch) === undefined) return undefined
    const inside = new Set(stretch.map(({ event_id }) => event_id))
    const isUnchanged = stretch.every((event) => keyOf(event) === undefined)
    return isUnchanged && end.event.prev_events.every((id) => inside.has(id)) ? beginning.part : undefined
  }

  /**
   * The states before the events, none of which is before one that it follows; the ends are what they lead to. A server that refuses to
   * give a state leaves it out. Fails if the server neither names nor gives a state, or names a visibility that cannot be fetched: the
   * history is then taken from another server, or later.
   */
  const find = Effect.fnUntraced(function* (
    room: RoomState,
    server: ServerName,
    ends: ReadonlyArray<StreamedEvent>,
    stretch: ReadonlyArray<Event>
  ) {
    const before = new Map<EventId, Part>()
    const unchanged = unchangedPart(server, ends, stretch)
    if (unchanged !== undefined) {
      for (const { event_id } of stretch) before.set(event_id, unchanged)
      return yield* toFound(room, server, stretch, before, [unchanged])
    }
    const after = new Map<EventId, Part | undefined>(yield* partsAfterOurs(room, stretch))
    const given: Array<Part> = []
    let questions = 0
    const ask = Effect.fnUntraced(function* (at: EventId) {
      if (questions++ >= maxQuestions) return given.length === 0 ? undefined : leastOpen(given)
      const answer = yield* Effect.result(partAt(room, server, at))
      if (Result.isFailure(answer)) {
        // A server that has the events may not know the state before them, as one that has back-filled them itself.
        if (!isRefusal(answer.failure)) return yield* answer.failure
        questions = maxQuestions
        return undefined
      }
      given.push(answer.success)
      return answer.success
    })
    const follow = Effect.gen(function* () {
      for (const event of stretch) {
        const parts = event.prev_events.map((id) => after.get(id))
        const isKnown = !parts.includes(undefined)
        const agreed = isKnown ? agreedPart(parts as ReadonlyArray<Part>) : undefined
        const asked = agreed ?? (yield* ask(event.event_id))
        const part = asked ?? (isKnown ? leastOpen(parts as ReadonlyArray<Part>) : undefined)
        if (part !== undefined) before.set(event.event_id, part)
        const key = keyOf(event)
        after.set(event.event_id, part === undefined || key === undefined ? part : new Map([...part, [key, event]]))
      }
    })
    const followed = answersTimeoutOrElse(follow, {
      duration: questionsTimeout,
      orElse: () => new RemoteFailure({ destination: server, reason: `no states within ${questionsTimeout}` })
    })
    yield* withAnswerBudget(maxBytes, roomId, followed)
    return yield* toFound(room, server, stretch, before, given)
  })

  /** Remembers how the stretch begins. */
  const toFound = Effect.fnUntraced(function* (
    room: RoomState,
    server: ServerName,
    stretch: ReadonlyArray<Event>,
    before: ReadonlyMap<EventId, Part>,
    given: ReadonlyArray<Part>
  ) {
    if (stretch.length > 0) {
      const first = firstOf(stretch)?.event_id
      const part = first === undefined ? undefined : before.get(first)
      beginning = first === undefined || part === undefined ? undefined : { first, server, part }
    }
    const named = new Map(given.flatMap((part) => [...part.values()].map((event) => [event.event_id, event] as const)))
    for (const { event_id } of stretch) named.delete(event_id)
    const known = yield* graph.known(room, named.keys())
    return { before, fetched: [...named.values()].filter(({ event_id }) => !known.has(event_id)) } satisfies FoundStates
  })

  /** Adds the states before the events to a step, one after the other in one chain. Memberships that were not accepted here do not count. */
  const addTo = Effect.fnUntraced(function* (
    step: RoomStep,
    room: RoomState,
    taken: ReadonlyArray<Event>,
    { before }: FoundStates,
    nids: ReadonlyMap<EventId, number>
  ) {
    const refs = new Map<EventId, StateRef>()
    const parts = new Set(taken.flatMap(({ event_id }) => before.get(event_id) ?? []))
    if (parts.size === 0) return refs
    const found = yield* graph.known(room, idsOf(parts))
    const nidOf = ({ event_id: id }: Event): number | undefined => {
      const known = found.get(id)
      return nids.get(id) ?? (isAccepted(known) ? known.nid : undefined)
    }
    const chain = yield* withNids(0, nextChain)
    step.chains.push({ chain, roomNid: room.roomNid, parent: null, height: 0 })
    let written: ReadonlyMap<string, number | undefined> = new Map()
    let last: Part | undefined
    let seq = 0
    for (const { event_id } of taken) {
      const part = before.get(event_id)
      if (part === undefined) continue
      const next = part === last ? written : new Map([...part].map(([key, event]) => [key, nidOf(event)]))
      const changed = [...new Set([...written.keys(), ...next.keys()])].filter(
        (key) => written.get(key) !== next.get(key)
      )
      if (changed.length > 0) seq++
      for (const key of changed) step.deltas.push({ chain, seq, key, eventNid: next.get(key) ?? null })
      written = next
      last = part
      refs.set(event_id, { chain, seq })
    }
    return refs
  })

  return { find, addTo }
})

export type HistoryStates = Effect.Success<ReturnType<typeof makeHistoryStates>>

const idsOf = (parts: Iterable<Part>): ReadonlyArray<EventId> =>
  [...parts].flatMap((part) => [...part.values()].map(({ event_id }) => event_id))

/** The event that sets the visibility before an event. */
export const visibilityBefore = ({ before }: FoundStates, { event_id }: Event): Option.Option<EventId> =>
  Option.map(Option.fromNullishOr(before.get(event_id)?.get(visibilityKey)), (event) => event.event_id)

export const isAccepted = (known: KnownEvent | undefined): known is KnownEvent =>
  known !== undefined && known.status !== EventStatus.rejected

/** The one event from which all others of a stretch come; undefined if there are several, or it begins the room. */
const firstOf = (stretch: ReadonlyArray<Event>): Event | undefined => {
  const inside = new Set(stretch.map(({ event_id }) => event_id))
  const first = stretch.filter(
    ({ prev_events }) => prev_events.length === 0 || !prev_events.every((id) => inside.has(id))
  )
  return first.length === 1 && first[0]!.prev_events.length > 0 ? first[0] : undefined
}

const sameEvents = (a: Part, b: Part): boolean =>
  a === b || (a.size === b.size && [...a].every(([key, event]) => b.get(key)?.event_id === event.event_id))

/** What the states after all predecessors have in common; undefined if they differ. The m.room.create follows no state. */
const agreedPart = (parts: ReadonlyArray<Part>): Part | undefined => {
  const first = parts[0] ?? new Map<string, Event>()
  return parts.every((part) => sameEvents(part, first)) ? first : undefined
}

const opennessOf = (key: string, event: Event | undefined): number => {
  if (key === visibilityKey) return visibilityOrder.indexOf(visibilityOf(event))
  return ["invite", "join"].indexOf(String(event?.content.membership))
}

/** For each key the most restrictive event: state resolution would choose one of them. */
const leastOpen = (parts: ReadonlyArray<Part>): Part => {
  const least = new Map<string, Event>()
  for (const key of new Set(parts.flatMap((part) => [...part.keys()]))) {
    const [event] = parts.map((part) => part.get(key)).sort((a, b) => opennessOf(key, a) - opennessOf(key, b))
    // `sort` puts undefined last, though a key that is not set shows less than any membership.
    const isUnset = parts.some((part) => !part.has(key)) && opennessOf(key, undefined) <= opennessOf(key, event)
    if (event !== undefined && !isUnset) least.set(key, event)
  }
  return least
}
