/**
 * The rooms of a `/sync` answer: those that the user is in, was invited to, knocks at, and has left, each with its updates
 * between two positions.
 *
 * Source: "Syncing" of the client-server specification.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { formatToken, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { type MembershipAt, SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { makeEventRenderer } from "../../room/EventRenderer.ts"
import { makeEventSelections } from "../../room/EventSelection.ts"
import { makeIgnoredUsers } from "../../room/IgnoredUsers.ts"
import { makeUnreadCounts } from "../../user/push/UnreadCounts.ts"
import { hasEvents, type SimpleEvent, type SyncAnswer, type SyncedRoom } from "../SyncAnswer.ts"
import { makeEventFormats } from "./EventFormats.ts"
import type { SentMembers } from "./SentMembers.ts"
import { makeStrippedRooms } from "./StrippedRooms.ts"
import { concurrencyOf, type RoomsRange, type SyncRange } from "./SyncRange.ts"
import { makeSyncRoomUpdates } from "./SyncRoomUpdates.ts"
import { makeSyncSelection } from "./SyncSelection.ts"
import { maxRoomBytes } from "./SyncTimelines.ts"
import { makeSyncUserData } from "./SyncUserData.ts"

interface SyncedRooms {
  readonly rooms: SyncAnswer["rooms"]
  readonly accountData: ReadonlyArray<SimpleEvent>
  /** The rooms that the user has entered since the former answer. */
  readonly entered: ReadonlyArray<number>
}

/** The counts of a room alone are no news: a filter that the events of a room do not pass hides the room. */
const dropEmpty = (
  answers: Map<RoomId, SyncedRoom>,
  joined: ReadonlyArray<MembershipAt>,
  newToClient: ReadonlySet<number>
): void => {
  for (const { roomId, roomNid } of joined) {
    const room = answers.get(roomId)
    if (room === undefined || room.timeline.limited || newToClient.has(roomNid)) continue
    const sections = [room.timeline, room.state, room.state_after, room.account_data, room.ephemeral]
    if (!sections.some(hasEvents)) answers.delete(roomId)
  }
}

export const makeSyncRooms = Effect.fnUntraced(function* (sentMembers: SentMembers) {
  const log = yield* EventLog
  const store = yield* SyncStore
  const ignoredUsers = yield* makeIgnoredUsers
  const unread = yield* makeUnreadCounts
  const renderer = yield* makeEventRenderer
  const selectionOf = yield* makeEventSelections
  const formatOf = yield* makeEventFormats
  const { readRooms } = yield* makeSyncRoomUpdates(sentMembers, renderer)
  const { readEntries } = yield* makeStrippedRooms
  const selectRooms = yield* makeSyncSelection
  const { addUserData, readUserData } = yield* makeSyncUserData

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /**
   * Rooms that a user left without having been inside: they refused an invitation, took back a knock, or were banned. They see that
   * event and nothing else of the room, whatever its history visibility is.
   */
  const readRefusals = Effect.fnUntraced(function* (range: SyncRange, rooms: ReadonlyArray<MembershipAt>) {
    const { entries } = yield* store.timelines(
      rooms.map(({ changedAt, roomNid }) => ({
        roomNid,
        after: positionBefore(changedAt),
        upTo: changedAt
      })),
      1,
      maxRoomBytes
    )
    const byRoom = Map.groupBy(entries, ({ roomNid }) => roomNid)
    const selection = selectionOf(range.filter.room?.timeline)
    return yield* Effect.forEach(rooms, ({ changedAt, roomId, roomNid }) =>
      Effect.gen(function* () {
        const passed = yield* selection.of(roomNid, byRoom.get(roomNid) ?? [])
        const events = yield* renderer.render(
          range.session,
          passed.map(({ event }) => event),
          { withoutRoomId: true, ...(yield* formatOf(range.filter, roomId)) }
        )
        const answer: SyncedRoom = { timeline: { events, limited: false, prev_batch: token(changedAt) } }
        return [roomId, answer] as const
      })
    )
  })

  /** The unread counts of rooms. */
  const readCounts = ({ filter, ignored, session, upTo }: RoomsRange, joined: ReadonlyArray<MembershipAt>) =>
    unread.count(
      session.userId,
      joined.map(({ changedAt, roomNid }) => ({ roomNid, joinedAt: changedAt })),
      upTo,
      ignored,
      filter.room?.timeline?.unread_thread_notifications ?? false
    )

  const read = Effect.fn("SyncRooms.read")(function* (range: SyncRange): Effect.fn.Return<SyncedRooms> {
    const { fullState, lazyDevice, session, since } = range
    if (since === undefined && lazyDevice !== undefined) sentMembers.forget(lazyDevice)
    const [selected, ignored] = yield* Effect.all([selectRooms(range), ignoredUsers.of(session.userId)], {
      concurrency: concurrencyOf(range)
    })
    const { changed, entered, joined, leftInside, leftOutside, newToClient, reading } = selected
    const roomsRange: RoomsRange = { ...range, ignored }
    // A first answer has all rooms, so that their counts can be read without knowing the answer.
    const [answers, userData, allCounts] = yield* Effect.all(
      [
        readRooms(roomsRange, reading),
        readUserData(range, joined, newToClient),
        since === undefined ? readCounts(roomsRange, joined) : Effect.undefined
      ],
      { concurrency: concurrencyOf(range) }
    )
    const leave = new Map(yield* readRefusals(range, leftOutside))
    for (const { roomId } of leftInside) {
      const answer = answers.get(roomId)
      if (answer !== undefined) leave.set(roomId, answer)
      answers.delete(roomId)
    }
    const accountData = addUserData(range, joined, newToClient, userData, answers)
    if (!fullState) dropEmpty(answers, joined, newToClient)
    const counted = joined.filter(({ roomId }) => answers.has(roomId))
    const counts = allCounts ?? (yield* readCounts(roomsRange, counted))
    for (const { roomId, roomNid } of counted) {
      answers.set(roomId, { ...answers.get(roomId)!, ...counts.get(roomNid) })
    }
    const rooms = {
      join: Object.fromEntries(answers),
      ...(yield* readEntries(session.userId, changed, ignored)),
      leave: Object.fromEntries(leave)
    }
    return { rooms, accountData, entered: since === undefined ? [] : [...entered] }
  })

  return { read }
})
