/**
 * The timelines of rooms in sliding sync: the newest events that the user may see.
 *
 * Source: "Room results" of MSC4186, `timeline`.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { SlidingRoomStore } from "@greenroom/store/SlidingRoomStore"
import { beginning, comparePositions } from "@greenroom/store/StreamToken"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { ErasedUsers } from "../../room/ErasedUsers.ts"
import { makeHistoryVisibility } from "../../room/HistoryVisibility.ts"
import { type IgnoredUsers, withoutIgnored } from "../../room/IgnoredUsers.ts"
import type { SlidingReading } from "./SlidingReading.ts"
import { readerOf } from "./SyncRange.ts"
import type { Timeline } from "./SyncTimelines.ts"

/** How many bytes of one room's timeline are sent. */
const maxRoomBytes = 1024 * 1024

/** Whether the timeline ends with the newest events, however many of them the client has. */
const isFromStart = ({ expanded, known }: SlidingReading) => known === undefined || expanded

const mayHaveBeenAway = ({ at, known }: SlidingReading) =>
  known !== undefined && comparePositions(at.changedAt, known) > 0

/** Whether the timeline may reach into a time in which the user was not in the room. */
const isPartial = (reading: SlidingReading) => isFromStart(reading) || mayHaveBeenAway(reading)

export const makeSlidingTimelines = Effect.gen(function* () {
  const store = yield* SyncStore
  const rooms = yield* SlidingRoomStore
  const { visibleTo } = yield* makeHistoryVisibility
  const erased = yield* ErasedUsers

  /** The newest events of each room. Rooms with the same limit are one query. */
  const readTimelines = Effect.fnUntraced(function* (
    userId: UserId,
    readings: ReadonlyArray<SlidingReading>,
    ignored: IgnoredUsers
  ) {
    const found = new Map<number, Timeline>()
    const hidden = yield* rooms.withHiddenHistory(readings.filter(isPartial).map(({ roomNid }) => roomNid))
    for (const [limit, group] of Map.groupBy(readings, ({ config }) => config.timelineLimit)) {
      const { cut, entries } = yield* store.timelines(
        group.map((reading) => ({
          roomNid: reading.roomNid,
          after: isFromStart(reading) ? beginning : (reading.known ?? beginning),
          upTo: reading.end
        })),
        limit + 1,
        maxRoomBytes
      )
      const byRoom = Map.groupBy(entries, ({ roomNid }) => roomNid)
      for (const reading of group) {
        const read = byRoom.get(reading.roomNid) ?? []
        const isHidden = reading.at.membership !== "join" || hidden.has(reading.roomNid) || erased.any()
        const mustFilter = isPartial(reading) && isHidden
        const visible = mustFilter ? yield* visibleTo(readerOf(userId, reading.at), read) : read
        const shown = limit === 0 ? [] : withoutIgnored(ignored, visible).slice(-limit)
        const limited = read.length > limit || cut.has(reading.roomNid)
        found.set(reading.roomNid, { entries: shown, limited: limited || visible.length < read.length })
      }
    }
    return found
  })

  return { readTimelines }
})
