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
}

const isMembership = ({ type }: Pick<Event, "type">): boolean => type === "m.room.member"

/** `sentMembers`: the memberships that clients with lazy loading have. */
export const makeTimelineStates = Effect.fnUntraced(function* (sentMembers: SentMembers) {
  const state = yield* makeSyncState

  /** The senders whose memberships the client needs to show the timeline. */
  const wantedMembers = (range: SyncRange, shown: ReadonlyArray<TimelineEntry>, isNew: boolean): WantedMembers => {
    if (!range.filter.room?.state?.lazy_load_members) return "all"
    const wanted = new Set(shown.map(({ event }) => event.sender))
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

  /** The state that goes with each timeline. */
  const readStates = Effect.fnUntraced(function* (
    range: SyncRange,
    rooms: ReadonlyArray<Reading>,
    { ends, known, timelines }: StatesOfRooms
  ): Effect.fn.Return<ReadonlyMap<number, ReadonlyArray<Event>>> {
    const { filter, fullState, stateAfter } = range
    const shownIn = ({ roomNid }: Reading) => timelines.get(roomNid)?.entries ?? []
    const wanted = rooms.flatMap((room): ReadonlyArray<WantedState> => {
      const { roomNid } = room
      const shown = shownIn(room)
      const state = stateAfter ? ends.get(roomNid) : (shown[0]?.stateBefore ?? ends.get(roomNid))
      if (state === undefined) return []
      const isNew = fullState || room.known === undefined
      const members = wantedMembers(range, shown, isNew)
      return [
        { roomNid, state, known: isNew ? undefined : known.get(roomNid), members, has: hasMember(range, roomNid) }
      ]
    })
    const matches = compileFilter(filter.room?.state)
    const stateOfRooms = new Map<number, ReadonlyArray<Event>>()
    for (const [roomNid, events] of yield* state.readStates(wanted)) stateOfRooms.set(roomNid, events.filter(matches))
    if (stateAfter) return stateOfRooms
    for (const room of rooms) {
      const inTimeline = new Set(shownIn(room).map(({ event }) => event.event_id))
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

  return { readStates, noteMembers }
})
