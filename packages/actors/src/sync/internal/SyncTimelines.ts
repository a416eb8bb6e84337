/**
 * The timelines of rooms in `/sync`: the newest events that pass the filter and that the user may see.
 *
 * Source: "Syncing" and "Room history visibility" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { StateStore } from "@greenroom/store/StateStore"
import { beginning, comparePositions } from "@greenroom/store/StreamToken"
import { SyncStore, type TimelineEntry } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { makeEventSelections } from "../../room/EventSelection.ts"
import { makeHistoryVisibility } from "../../room/HistoryVisibility.ts"
import { withoutIgnored } from "../../room/IgnoredUsers.ts"
import { concurrencyOf, type Reading, type RoomsRange, readerOf } from "./SyncRange.ts"

/** How many events a timeline has where the filter does not say, and at most. */
export const defaultTimeline = 10
const maxTimeline = 1_000
/** How many events are read to find those that pass a filter. */
const maxScanned = 1_000
/** The most bytes of one room's timeline in an answer: a part of those of all rooms, between two bounds. */
export const maxRoomBytes = 2 * 1024 * 1024
const minRoomBytes = 128 * 1024
const maxBytes = 32 * 1024 * 1024

const bytesOfRoom = (rooms: number): number => Math.max(minRoomBytes, Math.min(maxRoomBytes, maxBytes / rooms))

/** The timeline of a room, and whether earlier events are left out. */
export interface Timeline {
  readonly entries: ReadonlyArray<TimelineEntry>
  readonly limited: boolean
}

/**
 * Whether a timeline has events from a time in which the user was not in the room: the first timeline of a room, and one during which
 * the membership of the user changed.
 */
const mayHaveBeenAway = ({ changedAt, known }: Reading): boolean =>
  known === undefined || comparePositions(changedAt, known) > 0

export const makeSyncTimelines = Effect.gen(function* () {
  const store = yield* SyncStore
  const states = yield* StateStore
  const selectionOf = yield* makeEventSelections
  const { openTo, visibleTo } = yield* makeHistoryVisibility

  /** The numbers of the rooms in which the user sees every event. */
  const readOpen = ({ session }: RoomsRange, rooms: ReadonlyArray<Reading>): Effect.Effect<ReadonlySet<number>> =>
    Effect.map(
      openTo(rooms.filter(mayHaveBeenAway).map((room) => readerOf(session.userId, room))),
      (open) =>
        new Set(rooms.filter((room) => !mayHaveBeenAway(room) || open.has(room.roomNid)).map(({ roomNid }) => roomNid))
    )

  /**
   * The newest events of each room that pass the filter, and whether there are more of them. `total`: the rooms of the answer. `open`:
   * those in which the user sees every event.
   */
  const readTimelines = Effect.fnUntraced(function* (
    range: RoomsRange,
    rooms: ReadonlyArray<Reading>,
    total: number,
    open: Effect.Effect<ReadonlySet<number>>
  ): Effect.fn.Return<Map<number, Timeline>> {
    const timeline = range.filter.room?.timeline
    const selection = selectionOf(timeline)
    const limit = Math.min(timeline?.limit ?? defaultTimeline, maxTimeline)
    const isEverything = selection.isEverything && range.ignored.size === 0
    const scanned = isEverything ? limit + 1 : Math.max(limit + 1, maxScanned)
    const found = new Map<number, Timeline>()
    const { userId } = range.session
    const [{ cut, entries }, seen] = yield* Effect.all(
      [
        store.timelines(
          rooms.map(({ end, known, roomNid }) => ({ roomNid, after: known ?? beginning, upTo: end })),
          scanned,
          bytesOfRoom(total)
        ),
        open
      ],
      { concurrency: concurrencyOf(range) }
    )
    const byRoom = Map.groupBy(entries, ({ roomNid }) => roomNid)
    for (const room of rooms) {
      const read = byRoom.get(room.roomNid) ?? []
      const visible = seen.has(room.roomNid) ? read : yield* visibleIn(userId, room, read)
      const passed = yield* selection.of(room.roomNid, withoutIgnored(range.ignored, visible))
      const shown = limit === 0 ? [] : passed.slice(-limit)
      const isCut = read.length >= scanned || cut.has(room.roomNid) || visible.length < read.length
      // A gap lies between the timeline and events that the client has from an earlier stay in the room.
      const isEntered = range.since !== undefined && room.known === undefined
      found.set(room.roomNid, { entries: shown, limited: isEntered || isCut || passed.length > shown.length })
    }
    return found
  })

  /**
   * The events of a timeline that the user may see, and those of the state that the room has at its end: a state event that was left
   * out between others would be lost to the client.
   */
  const visibleIn = Effect.fnUntraced(function* (userId: UserId, room: Reading, read: ReadonlyArray<TimelineEntry>) {
    const visible = new Map(
      (yield* visibleTo(readerOf(userId, room), read)).map((entry) => [entry.event.event_id, entry] as const)
    )
    const hidden = read.filter(({ event }) => event.state_key !== undefined && !visible.has(event.event_id))
    if (hidden.length === 0) return [...visible.values()]
    const { end, roomNid } = room
    const ref = (yield* store.statesAt([{ roomNid, at: end }])).get(roomNid)
    const keys = hidden.map(({ event }) => [event.type, event.state_key ?? ""] as const)
    const state = ref === undefined ? [] : yield* states.read([{ roomNid, ref }], { keys })
    const current = new Set(state.map(({ event }) => event.event_id))
    return read.flatMap((entry) => {
      const { event_id } = entry.event
      return visible.get(event_id) ?? (current.has(event_id) ? [entry] : [])
    })
  })

  return { readOpen, readTimelines }
})
