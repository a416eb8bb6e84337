/**
 * The matches of a search that its user may see: in rooms of which the user is or was a member, by the history visibility, without
 * redacted events and those of ignored users, as far as the filter selects them.
 */
import type { RoomEventFilter } from "@greenroom/protocol/client-server/Filter"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import type { RoomMatches, SearchHit } from "@greenroom/store/SearchStore"
import { Effect } from "effect"
import type { Session } from "../../runtime/Session.ts"
import { makeEventSelections } from "../EventSelection.ts"
import { makeHistoryVisibility } from "../HistoryVisibility.ts"
import { makeIgnoredUsers, withoutIgnored } from "../IgnoredUsers.ts"
import type { RoomViewer, View } from "./RoomViewer.ts"

/** The most matches that are examined for one page, and how many of their events are read at once. */
export const maxScanned = 1_000
const chunkSize = 50

/** A match that the user may see. */
export interface Found {
  readonly stored: StoredEvent
  readonly view: View
  readonly hit: SearchHit
}

export const makeSearchMatches = Effect.fnUntraced(function* ({ view, visibleTo }: RoomViewer) {
  const events = yield* EventStore
  const selectionOf = yield* makeEventSelections
  const ignoredUsers = yield* makeIgnoredUsers
  const { openTo } = yield* makeHistoryVisibility

  /** Reads on until `limit` matches pass the filter and may be seen. */
  const collect = Effect.fnUntraced(function* (
    session: Session,
    hits: ReadonlyArray<SearchHit>,
    filter: RoomEventFilter | undefined,
    limit: number
  ) {
    const selection = selectionOf(filter)
    const ignored = yield* ignoredUsers.of(session.userId)
    const views = new Map<RoomId, View | undefined>()
    const found: Array<Found> = []
    for (let start = 0; start < hits.length; start += chunkSize) {
      const chunk = hits.slice(start, start + chunkSize)
      const stored = new Map(
        (yield* events.byIds(chunk.map(({ eventId }) => eventId))).map((storedEvent) => [
          storedEvent.event.event_id,
          storedEvent
        ])
      )
      const shown = new Map<EventId, View>()
      for (const [roomId, ofRoom] of Map.groupBy(stored.values(), ({ event }) => event.room_id)) {
        if (!views.has(roomId))
          views.set(roomId, yield* Effect.orElseSucceed(view(session.userId, roomId), () => undefined))
        const seen = views.get(roomId)
        if (seen === undefined) continue
        const live = ofRoom.filter(({ event }) => event.unsigned?.redacted_because === undefined)
        const visible = withoutIgnored(ignored, yield* visibleTo(seen.reader, live))
        const passed = yield* selection.of(seen.reader.roomNid, visible)
        for (const { event } of passed) shown.set(event.event_id, seen)
      }
      for (const hit of chunk) {
        const seen = shown.get(hit.eventId)
        if (seen === undefined) continue
        found.push({ stored: stored.get(hit.eventId)!, view: seen, hit })
        if (found.length === limit) return { found, last: hit }
      }
    }
    return { found, last: hits.length === maxScanned ? hits.at(-1) : undefined }
  })

  /** The matches in rooms in which the user sees everything, and the results in others. */
  const countOf = Effect.fnUntraced(function* (
    { userId }: Session,
    rooms: ReadonlyArray<RoomMatches>,
    found: ReadonlyArray<Found>
  ) {
    const open = yield* openTo(
      rooms.map(({ membership, roomNid }) => ({ userId, roomNid, isJoined: membership === "join", leftAt: undefined }))
    )
    const inOpen = rooms.reduce((sum, { count, roomNid }) => (open.has(roomNid) ? sum + count : sum), 0)
    return inOpen + found.filter(({ view: { reader } }) => !open.has(reader.roomNid)).length
  })

  return { collect, countOf }
})
