/**
 * Events that a room knows, by ID: from memory, else from the store.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { AuthChainStore } from "@greenroom/store/AuthChainStore"
import { EventStore } from "@greenroom/store/EventStore"
import { Array as Arr, Effect } from "effect"
import type { KnownEvent, RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** The number of events whose auth edges are kept. */
const keptEdges = 50_000

/** How many events are read at once. More would hold up the event loop. */
const readAtOnce = 500

/** How many such reads are under way at a time. */
const readsAtOnce = 4

/** The events of the room that were found, by ID. */
export class FoundEvents extends Map<EventId, KnownEvent> {
  /** The IDs of events in other rooms: in versions 1 and 2 servers choose the IDs of their events. */
  readonly foreign = new Set<EventId>()
}

/** Events that were looked up before they are needed. `RoomState.recent` is newer. */
export interface LookedUp {
  /** Undefined of those that the room does not know. */
  readonly events: Map<EventId, KnownEvent | undefined>
  readonly foreign: ReadonlySet<EventId>
}

const noEvents: ReadonlyArray<EventId> = []

/** Whether servers choose the IDs of events, so that one may be that of an event in another room. */
const choosesIds = ({ version }: RoomState): boolean => isDraft(version) || version.namesReferenceHashes

export const makeRoomEvents = Effect.fnUntraced(function* ({ log }: RoomWriter) {
  const events = yield* EventStore
  const chains = yield* AuthChainStore
  const edges = new Map<EventId, ReadonlyArray<EventId>>()

  /** Waits until the queued events are stored. */
  const flush = (room: RoomState) => log.append(room.commit(room.beginStep()))

  const known = Effect.fnUntraced(function* (room: RoomState, ids: Iterable<EventId>, lookedUp?: LookedUp) {
    const found = new FoundEvents()
    if (room.isBlank && !choosesIds(room)) return found
    const wanted: Array<EventId> = []
    for (const id of new Set(ids)) {
      const near = room.recent.get(id) ?? lookedUp?.events.get(id)
      if (near !== undefined) found.set(id, near)
      else if (lookedUp?.events.has(id) !== true) wanted.push(id)
      else if (lookedUp.foreign.has(id)) found.foreign.add(id)
    }
    const parts = yield* Effect.forEach(Arr.chunksOf(wanted, readAtOnce), events.byIds, { concurrency: readsAtOnce })
    for (const part of parts) {
      for (const stored of part) {
        const { event, status, stateAfter: after, stateBefore: before } = stored
        if (stored.roomNid !== room.roomNid) found.foreign.add(event.event_id)
        else found.set(event.event_id, { event, nid: stored.position.nid, status, before, after })
      }
    }
    return found
  })

  /** Looks up events that are soon to be asked for, those that are not known too. */
  const lookUp = Effect.fnUntraced(function* (room: RoomState, ids: Iterable<EventId>) {
    const wanted = new Set(ids)
    const found = yield* known(room, wanted)
    const events = new Map([...wanted].map((id) => [id, found.get(id)]))
    return { events, foreign: found.foreign } satisfies LookedUp
  })

  /** The same as `known`; if a needed event is neither in memory nor stored, waits for the queued commits. */
  const knownOrQueued = Effect.fnUntraced(function* (
    room: RoomState,
    ids: ReadonlyArray<EventId>,
    needed: ReadonlyArray<EventId>,
    lookedUp?: LookedUp
  ) {
    const found = yield* known(room, ids, lookedUp)
    if (needed.every((id) => found.has(id))) return found
    yield* flush(room)
    return yield* known(room, ids)
  })

  /** An event that is in memory. */
  const bodyAt = (room: RoomState, id: EventId): Event | undefined => room.recent.get(id)?.event ?? room.bodies.get(id)

  /** Events as the rules need them: redacted ones in their redacted form. Unknown ones are left out. */
  const bodiesOf = Effect.fnUntraced(function* (room: RoomState, ids: Iterable<EventId>) {
    const found = new Map<EventId, Event>()
    const wanted: Array<EventId> = []
    for (const id of new Set(ids)) {
      const body = bodyAt(room, id)
      if (body === undefined) wanted.push(id)
      else found.set(id, body)
    }
    for (const [id, { event }] of yield* knownOrQueued(room, wanted, wanted)) {
      found.set(id, event)
      room.bodies.add(event)
    }
    return found
  })

  /** The mainlines of m.room.power_levels events, as `mainlineOrder` of the state resolution needs them. */
  const powerLevelsBefore = Effect.fnUntraced(function* (room: RoomState, ids: ReadonlyArray<EventId>) {
    const found = yield* chains.powerLevelsBefore(ids)
    for (const event of found) room.bodies.add(event)
    return found
  })

  /** The events among the auth chains of the given ones, whose edges are not in memory. */
  const withoutEdges = (room: RoomState, ids: Iterable<EventId>): ReadonlyArray<EventId> => {
    const chain = new Set(ids)
    const missing: Array<EventId> = []
    for (const id of chain) {
      const named = edges.get(id) ?? bodyAt(room, id)?.auth_events
      if (named === undefined) missing.push(id)
      else {
        edges.set(id, named)
        for (const auth of named) chain.add(auth)
      }
    }
    return missing
  }

  /** Brings the edges of the events' auth chains into memory. */
  const loadEdges = Effect.fnUntraced(function* (room: RoomState, ids: ReadonlyArray<EventId>) {
    if (edges.size > keptEdges) edges.clear()
    const load = Effect.fnUntraced(function* (missing: ReadonlyArray<EventId>) {
      for (const [id, named] of yield* chains.edges(missing)) edges.set(id, named)
    })
    yield* load(withoutEdges(room, ids))
    const inLine = withoutEdges(room, ids)
    if (inLine.length === 0) return
    yield* flush(room)
    yield* load(inLine)
  })

  /** Takes note of the auth events of an event that is not known yet. */
  const noteEdges = ({ auth_events, event_id }: Event) => edges.set(event_id, auth_events)

  /** The auth events of an event whose edges were loaded. */
  const edgesOf = (id: EventId): ReadonlyArray<EventId> => edges.get(id) ?? noEvents

  return {
    known,
    lookUp,
    knownOrQueued,
    bodyAt,
    bodiesOf,
    powerLevelsBefore,
    loadEdges,
    noteEdges,
    edgesOf,
    flush
  }
})

export type RoomEvents = Effect.Success<ReturnType<typeof makeRoomEvents>>
