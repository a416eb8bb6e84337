/**
 * The updates of the rooms whose timeline is in a `/sync` answer: timeline, state and summary of each, read group by group.
 *
 * Source: "Syncing" of the client-server specification.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import type { StateRef } from "@greenroom/store/StateStore"
import { formatToken, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import type { EventRenderer, RenderedList } from "../../room/EventRenderer.ts"
import { sliced } from "../../runtime/Slices.ts"
import { compact, type SyncedRoom } from "../SyncAnswer.ts"
import { makeEventFormats } from "./EventFormats.ts"
import { membershipsAt } from "./MembershipAtEvents.ts"
import type { SentMembers } from "./SentMembers.ts"
import { concurrencyOf, hasLeft, type Reading, type RoomsRange, readerOf } from "./SyncRange.ts"
import { isOfSummary, makeSyncSummaries, type Summary } from "./SyncSummaries.ts"
import { makeSyncTimelines } from "./SyncTimelines.ts"
import { makeTimelineStates } from "./TimelineStates.ts"

/**
 * How many rooms are read together, and how many members they have, if all of them are in the answer: the events of a larger answer are
 * encoded group by group, so that those of a few rooms only are in memory as objects.
 */
const roomsAtOnce = 32
const membersAtOnce = 8_192
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

/** Encodes the events of rooms, in steps. */
function* compactRooms(
  answers: ReadonlyMap<RoomId, SyncedRoom>
): Generator<void, ReadonlyArray<readonly [RoomId, SyncedRoom]>> {
  const rooms: Array<readonly [RoomId, SyncedRoom]> = []
  for (const [roomId, { state, state_after, timeline, ...room }] of answers) {
    const encoded = {
      timeline: yield* compact(timeline),
      ...(state === undefined ? {} : { state: yield* compact(state) }),
      ...(state_after === undefined ? {} : { state_after: yield* compact(state_after) }),
      ...room
    }
    rooms.push([roomId, encoded])
  }
  return rooms
}

/** How many memberships of a room are in the answer, about. */
const membersIn = ({ filter, fullState }: RoomsRange, { known, members }: Reading): number =>
  (fullState || known === undefined) && filter.room?.state?.lazy_load_members !== true ? members : 0

/** The rooms that are read together. */
const groupsOf = (range: RoomsRange, rooms: ReadonlyArray<Reading>): ReadonlyArray<ReadonlyArray<Reading>> => {
  const groups: Array<Array<Reading>> = []
  let members = 0
  for (const room of rooms) {
    const group = groups.at(-1)
    const own = membersIn(range, room)
    const fits = group !== undefined && group.length < roomsAtOnce && members + own <= membersAtOnce
    if (fits) group.push(room)
    else groups.push([room])
    members = fits ? members + own : own
  }
  return groups
}

/** Summaries are of the present members, which former members do not get to know. */
const isInside = ({ membership }: Reading): boolean => !hasLeft(membership)

export const makeSyncRoomUpdates = Effect.fnUntraced(function* (sentMembers: SentMembers, renderer: EventRenderer) {
  const log = yield* EventLog
  const store = yield* SyncStore
  const formatOf = yield* makeEventFormats
  const { readOpen, readTimelines } = yield* makeSyncTimelines
  const { noteMembers, addHeroes, readStates } = yield* makeTimelineStates(sentMembers)
  const { readSummaries } = yield* makeSyncSummaries

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /** The updates of rooms whose timeline is in the answer, by their IDs. */
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

  const readGroups = Effect.fnUntraced(function* (range: RoomsRange, rooms: ReadonlyArray<Reading>, common: Common) {
    const isLarge = rooms.reduce((sum, room) => sum + membersIn(range, room), 0) > membersAtOnce
    if (rooms.length <= roomsAtOnce && !isLarge) return yield* readTogether(range, rooms, common)
    const groups = yield* Effect.forEach(
      groupsOf(range, rooms),
      (group) => Effect.flatMap(readTogether(range, group, common), (answers) => sliced(() => compactRooms(answers))),
      { concurrency: concurrencyOf(range) > 1 && !isLarge ? groupsAtOnce : 1 }
    )
    return new Map(groups.flat())
  })

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

  return { readRooms }
})
