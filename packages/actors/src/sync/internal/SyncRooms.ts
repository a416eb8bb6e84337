/**
 * The rooms of a `/sync` answer: those that the user is in, was invited to, knocks at, and has left, each with its updates
 * between two positions.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { compileFields, type Filter } from "@greenroom/protocol/client-server/Filter"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { EventLog } from "@greenroom/store/EventLog"
import { RoomStore } from "@greenroom/store/RoomStore"
import type { StateRef } from "@greenroom/store/StateStore"
import { formatToken, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { type MembershipAt, SyncStore } from "@greenroom/store/SyncStore"
import { Array as Arr, Effect, Option } from "effect"
import { makeEventRenderer, type RenderedList } from "../../room/EventRenderer.ts"
import { makeEventSelections } from "../../room/EventSelection.ts"
import { makeIgnoredUsers } from "../../room/IgnoredUsers.ts"
import { makeUnreadCounts } from "../../user/push/UnreadCounts.ts"
import { compact, hasEvents, type SimpleEvent, type SyncAnswer, type SyncedRoom } from "../SyncAnswer.ts"
import { membershipsAt } from "./MembershipAtEvents.ts"
import type { SentMembers } from "./SentMembers.ts"
import { makeStrippedRooms } from "./StrippedRooms.ts"
import { concurrencyOf, hasLeft, type Reading, type RoomsRange, readerOf, type SyncRange } from "./SyncRange.ts"
import { makeSyncSelection } from "./SyncSelection.ts"
import { isOfSummary, makeSyncSummaries, type Summary } from "./SyncSummaries.ts"
import { makeSyncTimelines, maxRoomBytes } from "./SyncTimelines.ts"
import { makeSyncUserData } from "./SyncUserData.ts"
import { makeTimelineStates } from "./TimelineStates.ts"

/**
 * How many rooms are read together: the events of an answer with more rooms are encoded group by group, so that those of a few rooms
 * only are in memory as objects.
 */
const roomsAtOnce = 32
/** How many groups of a first answer are read at a time: PostgreSQL reads one while another is encoded. */
const groupsAtOnce = 3

/** Rooms with more users are not counted. */
const maxCountedUsers = 64

/** What all groups of rooms of an answer share: so little of each room that it is read of all of them together. */
interface Common {
  /** How many rooms the answer has. */
  readonly total: number
  /** The numbers of the rooms in which the user sees every event. */
  readonly open: Effect.Effect<ReadonlySet<number>>
  /** The states at the ends of the timelines. */
  readonly ends: Effect.Effect<ReadonlyMap<number, StateRef>>
  /** How many users the rooms have that are new to the client, where members are loaded lazily. */
  readonly users: Effect.Effect<ReadonlyMap<number, number>>
  /** The summaries of the rooms that are new to the client. */
  readonly freshSummaries: Effect.Effect<ReadonlyMap<number, Summary>>
}

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

const compactRooms = (answers: ReadonlyMap<RoomId, SyncedRoom>): ReadonlyArray<readonly [RoomId, SyncedRoom]> =>
  Array.from(answers, ([roomId, { state, state_after, timeline, ...room }]) => [
    roomId,
    {
      timeline: compact(timeline),
      ...(state === undefined ? {} : { state: compact(state) }),
      ...(state_after === undefined ? {} : { state_after: compact(state_after) }),
      ...room
    }
  ])

/** Summaries are of the present members, which former members do not get to know. */
const isInside = ({ membership }: Reading): boolean => !hasLeft(membership)

export const makeSyncRooms = Effect.fnUntraced(function* (sentMembers: SentMembers) {
  const log = yield* EventLog
  const store = yield* SyncStore
  const ignoredUsers = yield* makeIgnoredUsers
  const unread = yield* makeUnreadCounts
  const renderer = yield* makeEventRenderer
  const selectionOf = yield* makeEventSelections
  const versions = yield* RoomStore
  const { readOpen, readTimelines } = yield* makeSyncTimelines
  const { noteMembers, addHeroes, readStates } = yield* makeTimelineStates(sentMembers)
  const { readSummaries } = yield* makeSyncSummaries
  const { readEntries } = yield* makeStrippedRooms
  const selectRooms = yield* makeSyncSelection
  const { addUserData, readUserData } = yield* makeSyncUserData

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /** How the filter wants events: as PDUs, with some of their fields. */
  const formatOf = Effect.fnUntraced(function* ({ event_fields, event_format }: Filter, roomId: RoomId) {
    const version = event_format === "federation" ? Option.getOrUndefined(yield* versions.version(roomId)) : undefined
    return { pick: compileFields(event_fields), toPdu: version === undefined ? undefined : roomVersion(version)?.toPdu }
  })

  /** The news of rooms whose timeline is in the answer. */
  const readRooms = Effect.fnUntraced(function* (range: RoomsRange, rooms: ReadonlyArray<Reading>) {
    const fresh = rooms.filter((room) => room.known === undefined && isInside(room))
    const freshNids = fresh.map(({ roomNid }) => roomNid)
    const isLazy = range.filter.room?.state?.lazy_load_members ?? false
    const ends = yield* Effect.cached(store.statesAt(rooms.map(({ end, roomNid }) => ({ roomNid, at: end }))))
    const common: Common = {
      total: rooms.length,
      open: yield* Effect.cached(readOpen(range, rooms)),
      ends,
      users: yield* Effect.cached(
        isLazy && fresh.length > 0
          ? store.userCounts(freshNids, maxCountedUsers)
          : Effect.succeed(new Map<number, number>())
      ),
      freshSummaries: yield* Effect.cached(Effect.flatMap(ends, (found) => readSummaries(range, fresh, found)))
    }
    // All groups wait for the summaries, which are read one after the other, so that these begin first.
    const [summaries, answers] = yield* Effect.all([common.freshSummaries, readGroups(range, rooms, common)], {
      concurrency: concurrencyOf(range)
    })
    for (const { roomId, roomNid } of fresh) {
      answers.set(roomId, { ...answers.get(roomId)!, summary: summaries.get(roomNid)! })
    }
    return answers
  })

  const readGroups = (range: RoomsRange, rooms: ReadonlyArray<Reading>, common: Common) =>
    rooms.length <= roomsAtOnce
      ? readTogether(range, rooms, common)
      : Effect.map(
          Effect.forEach(
            Arr.chunksOf(rooms, roomsAtOnce),
            (group) => Effect.map(readTogether(range, group, common), compactRooms),
            { concurrency: concurrencyOf(range) > 1 ? groupsAtOnce : 1 }
          ),
          (groups) => new Map(groups.flat())
        )

  const readTogether = Effect.fnUntraced(function* (
    range: RoomsRange,
    rooms: ReadonlyArray<Reading>,
    { ends, freshSummaries, open, total, users }: Common
  ) {
    const { session } = range
    const others = rooms.filter(({ known }) => known !== undefined)
    const [timelines, knownStates, endStates, counts, ofFresh] = yield* Effect.all(
      [
        readTimelines(range, rooms, total, open),
        store.statesAt(others.map(({ known, roomNid }) => ({ roomNid, at: known! }))),
        ends,
        users,
        freshSummaries
      ],
      { concurrency: concurrencyOf(range) }
    )
    const heroesIn = (summaries: ReadonlyMap<number, Summary>) => (roomNid: number) =>
      summaries.get(roomNid)?.["m.heroes"] ?? []
    const around = { timelines, known: knownStates, ends: endStates, users: counts, heroesOf: heroesIn(ofFresh) }
    const found = yield* readStates(range, rooms, around)
    const changed = others.filter(
      (room) =>
        isInside(room) &&
        (found.get(room.roomNid)?.some(isOfSummary) ||
          timelines.get(room.roomNid)?.entries.some(({ event }) => isOfSummary(event)))
    )
    const summaries = yield* readSummaries(range, changed, endStates)
    const states = yield* addHeroes(range, changed, around, heroesIn(summaries), found)
    const lists: Array<RenderedList> = []
    for (const room of rooms) {
      const { known, roomId, roomNid } = room
      const { entries, limited } = timelines.get(roomNid) ?? { entries: [], limited: false }
      // Events that were sent before get their new relations as events of their own.
      const isBundled = (limited || known === undefined) && entries.some(({ isRelatedTo }) => isRelatedTo)
      const bundleFor = isBundled ? readerOf(session.userId, room) : undefined
      const format = yield* formatOf(range.filter, roomId)
      const shown = entries.map(({ event }) => event)
      noteMembers(range, room, shown, states.get(roomNid) ?? [])
      const memberships = membershipsAt(session.userId, room, entries)
      lists.push({ events: shown, withoutRoomId: true, bundleFor, memberships, ...format })
      lists.push({ events: states.get(roomNid) ?? [], withoutRoomId: true, ...format })
    }
    const rendered = yield* renderer.renderLists(session, lists)
    const answers = new Map<RoomId, SyncedRoom>()
    rooms.forEach((room, index) => {
      const { entries, limited } = timelines.get(room.roomNid) ?? { entries: [], limited: false }
      const [timeline, stateEvents] = [rendered[2 * index]!, rendered[2 * index + 1]!]
      // Before a whole timeline there is nothing. Its token is that of its end, by which clients read the members of that time too.
      const first = limited || room.known !== undefined ? entries[0] : undefined
      const summary = summaries.get(room.roomNid)
      answers.set(room.roomId, {
        timeline: {
          events: timeline,
          limited,
          prev_batch: token(first === undefined ? room.end : positionBefore(first.position))
        },
        ...(range.stateAfter ? { state_after: { events: stateEvents } } : { state: { events: stateEvents } }),
        ...(summary === undefined ? {} : { summary })
      })
    })
    return answers
  })

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
