/**
 * The state of rooms in sliding sync: the part that is sent, and what the summaries of the rooms need.
 *
 * Source: "Room results" of MSC4186, `required_state`, `heroes`.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { splitStateKey } from "@greenroom/room/RoomVersion"
import { EventStore } from "@greenroom/store/EventStore"
import { SlidingRoomStore, type WantedKey } from "@greenroom/store/SlidingRoomStore"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import type { SlidingReading } from "./SlidingReading.ts"
import { sourcesOf, wantsState } from "./SlidingRequest.ts"
import { makeSyncState, sameState } from "./SyncState.ts"
import type { Timeline } from "./SyncTimelines.ts"

const maxHeroes = 5

/** The state of a room in an answer. */
export interface SlidingState {
  /** The parts that are sent. */
  readonly required: ReadonlyArray<Event>
  /** All events of state that were read, one for each key. For a known room the changes only. */
  readonly found: ReadonlyArray<Event>
  /** Whether a known room has another state than the client has. */
  readonly hasChanged: boolean
  /** The heroes, where the client does not have them yet. */
  readonly heroes: ReadonlyArray<UserId> | undefined
}

type ByRoom<A> = ReadonlyMap<number, A>

export const noTimeline: Timeline = { entries: [], limited: false }
export const noState: SlidingState = { required: [], found: [], hasChanged: false, heroes: undefined }

export const isMember = ({ type }: Event): boolean => type === "m.room.member"

/** Members without whom the timeline cannot be shown. */
const lazyMembers = ({ entries }: Timeline): ReadonlySet<string> =>
  new Set(entries.flatMap(({ event }) => (isMember(event) ? [event.sender, event.state_key ?? ""] : [event.sender])))

const summaryKeys = ["m.room.name", "m.room.avatar"]

/** The keys that are read of a room's state one by one. */
const keysOf = (
  reading: SlidingReading,
  ref: StateRef,
  timeline: Timeline,
  heroes: ReadonlyArray<UserId>
): ReadonlyArray<WantedKey> => {
  const keys = new Map<string, readonly [type: string, stateKey: string]>()
  const add = (type: string, stateKey: string) => keys.set(`${type}\0${stateKey}`, [type, stateKey])
  if (reading.wholeState) for (const [type, stateKey] of sourcesOf(reading.config).keys) add(type, stateKey)
  for (const type of summaryKeys) if (reading.known === undefined || heroes.length > 0) add(type, "")
  if (reading.config.lazyMembers) for (const userId of lazyMembers(timeline)) add("m.room.member", userId)
  for (const userId of heroes) add("m.room.member", userId)
  return Array.from(keys.values(), ([type, stateKey]) => ({ roomNid: reading.roomNid, ref, type, stateKey }))
}

/** The events that are sent. State of a known room is sent only if it changed. */
const required = (
  { config, former, known, wholeState }: SlidingReading,
  found: Iterable<Event>,
  changed: ReadonlyArray<Event>,
  timeline: Timeline
): ReadonlyArray<Event> => {
  const isNew = new Set(changed.map(({ event_id }) => event_id))
  const members = config.lazyMembers ? lazyMembers(timeline) : new Set<string>()
  return Array.from(found).filter((event) => {
    const { event_id, type } = event
    const key = event.state_key ?? ""
    if (type === "m.room.member" && config.lazyMembers) {
      if (members.has(key) || (isNew.has(event_id) && !timeline.limited)) return true
    }
    if (!wantsState(config, type, key)) return false
    if (known === undefined || isNew.has(event_id)) return true
    return wholeState && former !== undefined && !wantsState(former, type, key)
  })
}

export const makeSlidingStates = Effect.gen(function* () {
  const store = yield* SyncStore
  const rooms = yield* SlidingRoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const state = yield* makeSyncState

  /** The states at the ends of rooms, and what changed since the client has them. */
  const readChanges = Effect.fnUntraced(function* (readings: ReadonlyArray<SlidingReading>) {
    const [ends, knownStates] = yield* Effect.all([
      store.statesAt(readings.map(({ end, roomNid }) => ({ roomNid, at: end }))),
      store.statesAt(readings.flatMap(({ known, roomNid }) => (known === undefined ? [] : [{ roomNid, at: known }])))
    ])
    const changes = new Map<number, ReadonlyArray<Event>>()
    for (const { roomNid } of readings) {
      const [from, to] = [knownStates.get(roomNid), ends.get(roomNid)]
      if (from === undefined || to === undefined || sameState(from, to)) continue
      changes.set(roomNid, yield* state.readState(roomNid, to, from, "all"))
    }
    return { ends, changes }
  })

  /** The heroes of rooms that are new to the client, or whose members or name changed. */
  const readHeroes = (
    userId: UserId,
    readings: ReadonlyArray<SlidingReading>,
    changes: ByRoom<ReadonlyArray<Event>>
  ) => {
    const summarised = readings.filter(
      ({ isOutside, known, roomNid }) =>
        known === undefined ||
        (!isOutside && changes.get(roomNid)?.some((event) => isMember(event) || event.type === "m.room.name"))
    )
    return store.heroes(
      userId,
      summarised.map(({ roomNid }) => roomNid),
      maxHeroes
    )
  }

  /** All of the wanted state that lies under no key that can be named. */
  const readAnywhere = Effect.fnUntraced(function* ({ config }: SlidingReading, ref: StateRef) {
    const ids = [...(yield* states.readIds(ref))].flatMap(([key, { id }]) => {
      const [type, stateKey] = splitStateKey(key)
      return wantsState(config, type, stateKey) ? [id] : []
    })
    return (yield* events.byIds(ids)).map(({ event }) => event)
  })

  /** The state that is looked up by key or type, by the numbers of the rooms. */
  const readWanted = Effect.fnUntraced(function* (
    readings: ReadonlyArray<SlidingReading>,
    ends: ByRoom<StateRef>,
    timelines: ByRoom<Timeline>,
    heroes: ByRoom<ReadonlyArray<UserId>>
  ) {
    const atEnds = readings.flatMap((reading) => {
      const ref = ends.get(reading.roomNid)
      return ref === undefined ? [] : [{ reading, ref, ...sourcesOf(reading.config) }]
    })
    const keys = atEnds.flatMap(({ reading, ref }) =>
      keysOf(reading, ref, timelines.get(reading.roomNid) ?? noTimeline, heroes.get(reading.roomNid) ?? [])
    )
    const whole = atEnds.filter(({ reading }) => reading.wholeState)
    const typed = whole.filter(({ anywhere, types }) => !anywhere && types.length > 0)
    const [single, ofTypes] = yield* Effect.all([
      rooms.stateKeys(keys),
      typed.length === 0
        ? Effect.succeed([])
        : states.read(
            typed.map(({ reading, ref }) => ({ roomNid: reading.roomNid, ref })),
            { types: [...new Set(typed.flatMap(({ types }) => types))] }
          )
    ])
    const found = new Map<number, Array<Event>>()
    const add = (roomNid: number, event: Event) => {
      const events = found.get(roomNid)
      if (events === undefined) found.set(roomNid, [event])
      else events.push(event)
    }
    for (const { event, roomNid } of [...single, ...ofTypes]) add(roomNid, event)
    for (const { anywhere, reading, ref } of whole) {
      if (anywhere) for (const event of yield* readAnywhere(reading, ref)) add(reading.roomNid, event)
    }
    return found
  })

  /** The state of each room, by its number. */
  const readStates = Effect.fnUntraced(function* (
    userId: UserId,
    readings: ReadonlyArray<SlidingReading>,
    timelines: ByRoom<Timeline>
  ): Effect.fn.Return<ByRoom<SlidingState>> {
    const { changes, ends } = yield* readChanges(readings)
    const heroes = yield* readHeroes(userId, readings, changes)
    const wanted = yield* readWanted(readings, ends, timelines, heroes)
    return new Map(
      readings.map((reading) => {
        const { known, roomNid } = reading
        const changed = changes.get(roomNid) ?? []
        const all = new Map<EventId, Event>()
        for (const event of [...changed, ...(wanted.get(roomNid) ?? [])]) all.set(event.event_id, event)
        const found = [...all.values()]
        const roomState = {
          required: required(reading, found, changed, timelines.get(roomNid) ?? noTimeline),
          found,
          hasChanged: changes.has(roomNid),
          heroes: heroes.get(roomNid) ?? (known === undefined ? [] : undefined)
        }
        return [roomNid, roomState] as const
      })
    )
  })

  return { readStates }
})
