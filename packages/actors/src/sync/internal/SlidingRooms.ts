/**
 * The rooms of an answer of sliding sync: the updates of each room, or the whole room if the client does not have it yet.
 * Each read covers all rooms at once.
 *
 * Source: "Room results" of MSC4186.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { SlidingRoomStore } from "@greenroom/store/SlidingRoomStore"
import { comparePositions, formatToken, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { type MembershipAt, SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { makeEventRenderer } from "../../room/EventRenderer.ts"
import { type IgnoredUsers, makeIgnoredUsers } from "../../room/IgnoredUsers.ts"
import type { Session } from "../../runtime/Session.ts"
import { makeUnreadCounts } from "../../user/push/UnreadCounts.ts"
import type { SlidingRoom } from "../SlidingAnswer.ts"
import { membershipsAt } from "./MembershipAtEvents.ts"
import { type ShownRoom, type SlidingReading, toReading } from "./SlidingReading.ts"
import { makeSlidingStates, noState, noTimeline, type SlidingState } from "./SlidingStates.ts"
import { summaryOf } from "./SlidingSummaries.ts"
import { makeSlidingTimelines } from "./SlidingTimelines.ts"
import type { StrippedRooms } from "./StrippedRooms.ts"
import { hasLeft, readerOf } from "./SyncRange.ts"
import type { Timeline } from "./SyncTimelines.ts"

/** The answer's part of a room. */
export interface SlidingAnswerRoom {
  readonly roomId: RoomId
  readonly answer: SlidingRoom
}

/** What an answer says of a room beside its events. */
type Facts = Pick<
  SlidingRoom,
  "bump_stamp" | "joined_count" | "invited_count" | "notification_count" | "highlight_count"
>

/** The events of a room, and what is said beside them. */
interface RoomParts {
  readonly timeline: Timeline
  readonly state: SlidingState
  readonly facts: Facts
}

const countLive = ({ entries }: Timeline, since: StreamPosition | undefined): number =>
  since === undefined ? 0 : entries.filter(({ position }) => comparePositions(position, since) > 0).length

/** Whether a client gets the room: it is new to it, or has updates. */
const isNews = ({ at, expanded, known }: SlidingReading, { state, timeline }: RoomParts): boolean =>
  known === undefined ||
  expanded ||
  timeline.entries.length > 0 ||
  state.required.length > 0 ||
  state.hasChanged ||
  hasLeft(at.membership)

export const makeSlidingRooms = Effect.fnUntraced(function* ({ readStripped }: Pick<StrippedRooms, "readStripped">) {
  const log = yield* EventLog
  const store = yield* SyncStore
  const rooms = yield* SlidingRoomStore
  const unread = yield* makeUnreadCounts
  const renderer = yield* makeEventRenderer
  const ignoredUsers = yield* makeIgnoredUsers
  const { readTimelines } = yield* makeSlidingTimelines
  const { readStates } = yield* makeSlidingStates

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /** A room that the user may not read: the stripped state of an invitation or a knock. */
  const strippedRoom = Effect.fnUntraced(function* (userId: UserId, { known, lists }: ShownRoom, at: MembershipAt) {
    if (known !== undefined && comparePositions(at.changedAt, known) <= 0) return undefined
    const { events: stripped } = yield* readStripped(userId, at)
    return {
      initial: true,
      membership: at.membership,
      ...(lists.length === 0 ? {} : { lists }),
      bump_stamp: at.changedAt.xid,
      invite_state: stripped,
      stripped_state: stripped
    } satisfies SlidingRoom
  })

  /** Counts of members and unread events, and the newest activity, by the numbers of the rooms. */
  const readFacts = Effect.fnUntraced(function* (
    userId: UserId,
    upTo: StreamPosition,
    readings: ReadonlyArray<SlidingReading>,
    states: ReadonlyMap<number, SlidingState>,
    ignored: IgnoredUsers
  ) {
    const joined = readings.filter(({ at }) => at.membership === "join")
    const roomNids = joined.map(({ roomNid }) => roomNid)
    const [counts, bumps, unreadCounts] = yield* Effect.all([
      store.memberCounts(roomNids.filter((roomNid) => states.get(roomNid)?.heroes !== undefined)),
      rooms.bumpStamps(roomNids, upTo),
      unread.count(
        userId,
        joined.map(({ at, roomNid }) => ({ roomNid, joinedAt: at.changedAt })),
        upTo,
        ignored,
        true
      )
    ])
    return ({ at, roomNid }: SlidingReading): Facts => {
      const count = counts.get(roomNid)
      const { highlight_count = 0, notification_count = 0 } = unreadCounts.get(roomNid)?.unread_notifications ?? {}
      return {
        bump_stamp: at.membership === "join" ? (bumps.get(roomNid) ?? 0) : at.changedAt.xid,
        ...(count === undefined ? {} : { joined_count: count.joined, invited_count: count.invited }),
        notification_count,
        highlight_count
      }
    }
  })

  /** The rooms whose timelines and state are read, and the answers for those that the user may not read. */
  const sortRooms = Effect.fnUntraced(function* (
    userId: UserId,
    since: StreamPosition | undefined,
    upTo: StreamPosition,
    shown: ReadonlyArray<ShownRoom>
  ) {
    const answers = new Map<number, SlidingAnswerRoom>()
    const readings: Array<SlidingReading> = []
    const nids = shown.map(({ room }) => room.roomNid)
    const memberships = new Map(
      (yield* store.memberships(userId, upTo, since, nids)).map((at) => [at.roomNid, at] as const)
    )
    for (const shownRoom of shown) {
      const at = memberships.get(shownRoom.room.roomNid)
      if (at === undefined) continue
      if (at.membership === "invite" || at.membership === "knock") {
        const stripped = yield* strippedRoom(userId, shownRoom, at)
        if (stripped !== undefined) answers.set(at.roomNid, { roomId: at.roomId, answer: stripped })
      } else readings.push(toReading(shownRoom, at, since, upTo))
    }
    return { answers, readings }
  })

  const renderRoom = Effect.fnUntraced(function* (
    session: Session,
    since: StreamPosition | undefined,
    reading: SlidingReading,
    { facts, state, timeline }: RoomParts,
    isDirect: boolean
  ) {
    const { at, config, expanded, initial, known, lists } = reading
    const isFirst = known === undefined
    const [timelineEvents, stateEvents]: ReadonlyArray<ReadonlyArray<ClientServerEvent>> = yield* Effect.all([
      renderer.render(
        session,
        timeline.entries.map(({ event }) => event),
        {
          withoutRoomId: true,
          bundleFor: isFirst || timeline.limited ? readerOf(session.userId, at) : undefined,
          memberships: membershipsAt(session.userId, at, timeline.entries)
        }
      ),
      renderer.render(session, state.required, { withoutRoomId: true })
    ])
    const first = timeline.entries[0]
    return {
      ...(initial ? { initial } : {}),
      membership: at.membership,
      ...(lists.length === 0 ? {} : { lists }),
      ...summaryOf(reading, state),
      ...(isFirst && isDirect ? { is_dm: true } : {}),
      required_state: stateEvents ?? [],
      timeline: timelineEvents ?? [],
      limited: timeline.limited || (isFirst && config.timelineLimit === 0),
      ...(expanded ? { expanded_timeline: true, unstable_expanded_timeline: true } : {}),
      num_live: countLive(timeline, known ?? since),
      prev_batch: token(first === undefined ? reading.end : positionBefore(first.position)),
      ...facts
    } satisfies SlidingRoom
  })

  /** The answer's rooms between two positions, by number. Known rooms without updates are left out. */
  const read = Effect.fnUntraced(function* (
    session: Session,
    since: StreamPosition | undefined,
    upTo: StreamPosition,
    shown: ReadonlyArray<ShownRoom>,
    direct: ReadonlySet<string>
  ): Effect.fn.Return<ReadonlyMap<number, SlidingAnswerRoom>> {
    if (shown.length === 0) return new Map()
    const { userId } = session
    const { answers, readings } = yield* sortRooms(userId, since, upTo, shown)
    const ignored = yield* ignoredUsers.of(userId)
    const timelines = yield* readTimelines(userId, readings, ignored)
    const states = yield* readStates(userId, readings, timelines)
    const factsOf = yield* readFacts(userId, upTo, readings, states, ignored)
    const answerRoom = Effect.fnUntraced(function* (reading: SlidingReading) {
      const { at, roomNid } = reading
      const timeline = timelines.get(roomNid) ?? noTimeline
      const parts = { timeline, state: states.get(roomNid) ?? noState, facts: factsOf(reading) }
      if (!isNews(reading, parts)) return
      const answer = yield* renderRoom(session, since, reading, parts, direct.has(at.roomId))
      answers.set(roomNid, { roomId: at.roomId, answer })
    })
    yield* Effect.forEach(readings, answerRoom, { concurrency: 4, discard: true })
    return answers
  })

  return { read }
})
