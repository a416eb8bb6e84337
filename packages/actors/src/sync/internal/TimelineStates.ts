/**
 * The state that goes with each timeline of a `/sync` answer.
 *
 * Source: "Syncing" and "Lazy-loading room members" of the client-server specification.
 */
import { compileFilter } from "@greenroom/protocol/client-server/Filter"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { StateRef } from "@greenroom/store/StateStore"
import type { TimelineEntry } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import type { SentMembers } from "./SentMembers.ts"
import type { Reading, SyncRange } from "./SyncRange.ts"
import { makeSyncState, type WantedMembers, type WantedState } from "./SyncState.ts"
import type { Timeline } from "./SyncTimelines.ts"

interface StatesOfRooms {
  readonly timelines: ReadonlyMap<number, Pick<Timeline, "entries">>
  /** The states that the client knows. */
  readonly known: ReadonlyMap<number, StateRef>
  /** The states at the ends of the timelines. */
  readonly ends: ReadonlyMap<number, StateRef>
  /** How many users have or had a membership in each room, as far as it is known. */
  readonly users: ReadonlyMap<number, number>
  /** The heroes of the rooms that are new to the client. */
  readonly heroesOf: (roomNid: number) => ReadonlyArray<UserId>
}

const isMembership = ({ type }: Pick<Event, "type">): boolean => type === "m.room.member"

/** `sentMembers`: the memberships that clients with lazy loading have. */
export const makeTimelineStates = Effect.fnUntraced(function* (sentMembers: SentMembers) {
  const state = yield* makeSyncState

  /** The senders whose memberships the client needs to show the timeline, and the heroes by which it names the room. */
  const wantedMembers = (
    range: SyncRange,
    shown: ReadonlyArray<TimelineEntry>,
    isNew: boolean,
    heroes: ReadonlyArray<UserId>
  ): WantedMembers => {
    if (!range.filter.room?.state?.lazy_load_members) return "all"
    const wanted = new Set(heroes)
    for (const { event } of shown) wanted.add(event.sender)
    // Only the state after the timeline contains the memberships in it.
    if (range.stateAfter) for (const { event } of shown) if (isMembership(event)) wanted.add(event.state_key as UserId)
    if (isNew) wanted.add(range.session.userId)
    return wanted
  }

  /** Whether the client of a lazy device has a membership of a room. */
  const hasMember = ({ lazyDevice, since }: SyncRange, roomNid: number) =>
    lazyDevice === undefined || since === undefined
      ? undefined
      : (membership: Event) => sentMembers.has(lazyDevice, roomNid, membership, since)

  /** Notes the memberships that are in the answer to a lazy device. */
  const noteMembers = (
    { fullState, lazyDevice, since, stateAfter, upTo }: SyncRange,
    { known, roomNid }: Reading,
    timeline: ReadonlyArray<Event>,
    state: ReadonlyArray<Event>
  ) => {
    if (lazyDevice === undefined) return
    // A first answer has forgotten all rooms.
    if (since !== undefined && (known === undefined || fullState)) sentMembers.forgetRoom(lazyDevice, roomNid)
    const inOrder = stateAfter ? [...timeline, ...state] : [...state, ...timeline]
    sentMembers.note(lazyDevice, roomNid, inOrder.filter(isMembership), upTo)
  }

  /** The state that a client has to know of a room beside the timeline: the one before it, or after it. */
  const stateBeside = ({ stateAfter }: SyncRange, { roomNid }: Reading, { ends, timelines }: StatesOfRooms) =>
    stateAfter ? ends.get(roomNid) : (timelines.get(roomNid)?.entries[0]?.stateBefore ?? ends.get(roomNid))

  /**
   * Adds the memberships of heroes to the states of rooms whose summaries changed: those that are neither in the answer nor with the
   * client. Those of senders have been read. `heroesOf`: the users by the number of the room; `found`: the state in the answer.
   */
  const addHeroes = Effect.fnUntraced(function* (
    range: SyncRange,
    rooms: ReadonlyArray<Reading>,
    states: StatesOfRooms,
    heroesOf: (roomNid: number) => ReadonlyArray<UserId>,
    found: ReadonlyMap<number, ReadonlyArray<Event>>
  ): Effect.fn.Return<ReadonlyMap<number, ReadonlyArray<Event>>> {
    const { filter, fullState } = range
    if (!filter.room?.state?.lazy_load_members) return found
    const wanted = rooms.flatMap((room): ReadonlyArray<WantedState> => {
      const { known, roomNid } = room
      const ref = stateBeside(range, room, states)
      const isNew = known === undefined || fullState
      const senders = wantedMembers(range, states.timelines.get(roomNid)?.entries ?? [], isNew, [])
      const members = new Set(heroesOf(roomNid).filter((userId) => senders !== "all" && !senders.has(userId)))
      if (ref === undefined || members.size === 0) return []
      const has = isNew ? undefined : hasMember(range, roomNid)
      return [{ roomNid, state: ref, known: undefined, members, has }]
    })
    if (wanted.length === 0) return found
    const read = yield* state.readMembers(wanted)
    const matches = compileFilter(filter.room.state)
    const all = new Map(found)
    for (const { has = () => false, roomNid } of wanted) {
      const before = found.get(roomNid) ?? []
      const timeline = states.timelines.get(roomNid)?.entries ?? []
      const sent = new Set([...before, ...timeline.map(({ event }) => event)].map(({ event_id }) => event_id))
      const more = (read.get(roomNid) ?? []).filter(
        (event) => matches(event) && !sent.has(event.event_id) && !has(event)
      )
      all.set(roomNid, [...before, ...more])
    }
    return all
  })

  /** The state that goes with each timeline. */
  const readStates = Effect.fnUntraced(function* (
    range: SyncRange,
    rooms: ReadonlyArray<Reading>,
    states: StatesOfRooms
  ): Effect.fn.Return<ReadonlyMap<number, ReadonlyArray<Event>>> {
    const { filter, fullState, stateAfter } = range
    const { heroesOf, known, timelines, users } = states
    const shownIn = ({ roomNid }: Reading) => timelines.get(roomNid)?.entries ?? []
    const wanted = rooms.flatMap((room): ReadonlyArray<WantedState> => {
      const { roomNid } = room
      const shown = shownIn(room)
      const state = stateBeside(range, room, states)
      if (state === undefined) return []
      const isNew = fullState || room.known === undefined
      const members = wantedMembers(range, shown, isNew, heroesOf(roomNid))
      const before = isNew ? undefined : known.get(roomNid)
      return [{ roomNid, state, known: before, members, users: users.get(roomNid), has: hasMember(range, roomNid) }]
    })
    const matches = compileFilter(filter.room?.state)
    const stateOfRooms = new Map<number, ReadonlyArray<Event>>()
    for (const [roomNid, events] of yield* state.readStates(wanted)) stateOfRooms.set(roomNid, events.filter(matches))
    if (stateAfter) return stateOfRooms
    for (const room of rooms) {
      const inTimeline = new Set(
        shownIn(room).flatMap(({ event }) => (event.state_key === undefined ? [] : event.event_id))
      )
      const events = stateOfRooms.get(room.roomNid)
      if (events !== undefined && inTimeline.size > 0) {
        stateOfRooms.set(
          room.roomNid,
          events.filter(({ event_id }) => !inTimeline.has(event_id))
        )
      }
    }
    return stateOfRooms
  })

  return { readStates, addHeroes, noteMembers }
})
