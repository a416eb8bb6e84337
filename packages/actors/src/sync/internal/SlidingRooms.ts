/**
 * The rooms of an answer of sliding sync: the updates of each room, or the whole room if the client does not have it yet.
 * Each read covers all rooms at once.
 *
 * Source: "Room results" of MSC4186.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { splitStateKey } from "@greenroom/room/RoomVersion"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { SlidingRoomStore, type WantedKey } from "@greenroom/store/SlidingRoomStore"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { beginning, comparePositions, formatToken, type StreamPosition } from "@greenroom/store/StreamToken"
import { type MembershipAt, SyncStore, type TimelineEntry } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { ErasedUsers } from "../../room/ErasedUsers.ts"
import { makeEventRenderer } from "../../room/EventRenderer.ts"
import { makeHistoryVisibility } from "../../room/HistoryVisibility.ts"
import { type IgnoredUsers, makeIgnoredUsers, withoutIgnored } from "../../room/IgnoredUsers.ts"
import type { Session } from "../../runtime/Session.ts"
import { makeUnreadCounts } from "../../user/push/UnreadCounts.ts"
import type { SlidingRoom } from "../SlidingAnswer.ts"
import { membershipsAt } from "./MembershipAtEvents.ts"
import type { UserRoom } from "./RoomLists.ts"
import { type RoomConfig, sourcesOf, wantsState } from "./SlidingRequest.ts"
import type { StrippedRooms } from "./StrippedRooms.ts"
import { hasLeft, readerOf } from "./SyncRange.ts"
import { makeSyncState, sameState } from "./SyncState.ts"

/** How many bytes of one room's timeline are sent. */
const maxRoomBytes = 1024 * 1024
const maxHeroes = 5

/** A room that is part of an answer. */
export interface ShownRoom {
  readonly room: UserRoom
  readonly config: RoomConfig
  /** The lists that match the room. */
  readonly lists: ReadonlyArray<string>
  /** The position up to which the client has the room; undefined for a room that it does not have. */
  readonly known: StreamPosition | undefined
  /** The configuration with which the room was sent last. */
  readonly former: RoomConfig | undefined
}

/** A room whose timeline and state are sent. */
interface Reading extends ShownRoom {
  readonly roomNid: number
  readonly at: MembershipAt
  /** The last position of the room for the user: the end of the answer, or the user's leave. */
  readonly end: StreamPosition
  /** Sends the last events again, because more of them are wanted than before. */
  readonly expanded: boolean
  /** Looks for all of the wanted state, and not only for what changed. */
  readonly wholeState: boolean
  /** Whether the user was not in the room when this membership began: an invitation or a knock was declined, for example. */
  readonly isOutside: boolean
}

/** The answer's part of a room. */
export interface SlidingAnswerRoom {
  readonly roomId: RoomId
  readonly answer: SlidingRoom
}

interface Timeline {
  readonly entries: ReadonlyArray<TimelineEntry>
  readonly limited: boolean
}

interface RoomState {
  /** The parts that are sent. */
  readonly required: ReadonlyArray<Event>
  /** All events of state that were read, one for each key. For a known room the changes only. */
  readonly found: ReadonlyArray<Event>
}

const noTimeline: Timeline = { entries: [], limited: false }

const isMember = ({ type }: Event): boolean => type === "m.room.member"

const textOf = (event: Event | undefined, key: string): string | undefined => {
  const value = event?.content[key]
  return typeof value === "string" && value !== "" ? value : undefined
}

const grew = (former: RoomConfig | undefined, config: RoomConfig) =>
  former !== undefined && config.timelineLimit > former.timelineLimit

const wantsMore = (former: RoomConfig | undefined, { sets }: RoomConfig) => {
  if (former === undefined) return false
  const had = new Set(former.sets.map((set) => JSON.stringify(set)))
  return sets.some((set) => !had.has(JSON.stringify(set)))
}

/** Whether a room must be sent for the sake of its settings, without any news. */
export const isExpanded = (former: RoomConfig | undefined, config: RoomConfig): boolean =>
  grew(former, config) || wantsMore(former, config)

export const makeSlidingRooms = Effect.fnUntraced(function* ({ readStripped }: Pick<StrippedRooms, "readStripped">) {
  const log = yield* EventLog
  const store = yield* SyncStore
  const rooms = yield* SlidingRoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const state = yield* makeSyncState
  const unread = yield* makeUnreadCounts
  const renderer = yield* makeEventRenderer
  const { visibleTo } = yield* makeHistoryVisibility
  const ignoredUsers = yield* makeIgnoredUsers
  const erased = yield* ErasedUsers

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /**
   * Users must not see events from the time in which they were not in the room. Their membership is known as of `since`
   * only. Users that were outside to the end see the change of their own membership and nothing else.
   */
  const toReading = (
    shown: ShownRoom,
    at: MembershipAt,
    since: StreamPosition | undefined,
    upTo: StreamPosition
  ): Reading => {
    const { config, former, known, room } = shown
    const isOutside = hasLeft(at.membership) && at.previous !== "join"
    const wasThere =
      at.before === "join" && known !== undefined && since !== undefined && comparePositions(known, since) >= 0
    const cameBack =
      at.membership === "join" && known !== undefined && comparePositions(at.changedAt, known) > 0 && !wasThere
    const beforeChange = { ...at.changedAt, nid: at.changedAt.nid - 1 }
    return {
      ...shown,
      known: isOutside ? beforeChange : cameBack ? undefined : known,
      roomNid: room.roomNid,
      at,
      end: hasLeft(at.membership) ? at.changedAt : upTo,
      expanded: !isOutside && !cameBack && known !== undefined && grew(former, config),
      wholeState: !isOutside && (cameBack || known === undefined || wantsMore(former, config)),
      isOutside
    }
  }

  /** The newest events of each room. Rooms with the same limit are one query. */
  const readTimelines = Effect.fnUntraced(function* (
    userId: UserId,
    readings: ReadonlyArray<Reading>,
    ignored: IgnoredUsers
  ) {
    const found = new Map<number, Timeline>()
    const isFromStart = ({ expanded, known }: Reading) => known === undefined || expanded
    const mayHaveBeenAway = ({ at, known }: Reading) => known !== undefined && comparePositions(at.changedAt, known) > 0
    const isPartial = (reading: Reading) => isFromStart(reading) || mayHaveBeenAway(reading)
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

  /** Members without whom the timeline cannot be shown. */
  const lazyMembers = ({ entries }: Timeline): ReadonlySet<string> =>
    new Set(entries.flatMap(({ event }) => (isMember(event) ? [event.sender, event.state_key ?? ""] : [event.sender])))

  /** All of the wanted state that lies under no key that can be named. */
  const readAnywhere = Effect.fnUntraced(function* ({ config }: Reading, ref: StateRef) {
    const ids = [...(yield* states.readIds(ref))].flatMap(([key, { id }]) => {
      const [type, stateKey] = splitStateKey(key)
      return wantsState(config, type, stateKey) ? [id] : []
    })
    return (yield* events.byIds(ids)).map(({ event }) => event)
  })

  const summaryKeys = ["m.room.name", "m.room.avatar"]

  /** The keys that are read of a room's state one by one. */
  const keysOf = (
    reading: Reading,
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

  /** The state of each room: the part that is sent, and the part that its summary needs. */
  const readStates = Effect.fnUntraced(function* (
    userId: UserId,
    readings: ReadonlyArray<Reading>,
    timelines: ReadonlyMap<number, Timeline>
  ) {
    const [endStates, knownStates] = yield* Effect.all([
      store.statesAt(readings.map(({ end, roomNid }) => ({ roomNid, at: end }))),
      store.statesAt(readings.flatMap(({ known, roomNid }) => (known === undefined ? [] : [{ roomNid, at: known }])))
    ])
    const changes = new Map<number, ReadonlyArray<Event>>()
    for (const { roomNid } of readings) {
      const [from, to] = [knownStates.get(roomNid), endStates.get(roomNid)]
      if (from === undefined || to === undefined || sameState(from, to)) continue
      changes.set(roomNid, yield* state.readState(roomNid, to, from, "all"))
    }
    const summarised = readings.filter(
      ({ isOutside, known, roomNid }) =>
        known === undefined ||
        (!isOutside && changes.get(roomNid)?.some((event) => isMember(event) || event.type === "m.room.name"))
    )
    const heroes = yield* store.heroes(
      userId,
      summarised.map(({ roomNid }) => roomNid),
      maxHeroes
    )
    const keys = readings.flatMap((reading) => {
      const ref = endStates.get(reading.roomNid)
      const timeline = timelines.get(reading.roomNid) ?? noTimeline
      return ref === undefined ? [] : keysOf(reading, ref, timeline, heroes.get(reading.roomNid) ?? [])
    })
    const byType = readings.flatMap((reading) => {
      const ref = endStates.get(reading.roomNid)
      return ref === undefined || !reading.wholeState ? [] : [{ reading, ref, ...sourcesOf(reading.config) }]
    })
    const typed = byType.filter(({ anywhere, types }) => !anywhere && types.length > 0)
    const [single, ofTypes] = yield* Effect.all([
      rooms.stateKeys(keys),
      typed.length === 0
        ? Effect.succeed([])
        : states.read(
            typed.map(({ reading, ref }) => ({ roomNid: reading.roomNid, ref })),
            { types: [...new Set(typed.flatMap(({ types }) => types))] }
          )
    ])
    const read = Map.groupBy([...single, ...ofTypes], ({ roomNid }) => roomNid)
    const wholeOf = new Map(
      byType.flatMap(({ anywhere, reading, ref }) => (anywhere ? [[reading.roomNid, ref] as const] : []))
    )
    const found = new Map<number, RoomState>()
    for (const reading of readings) {
      const { roomNid } = reading
      const whole = wholeOf.get(roomNid)
      const rest = whole === undefined ? [] : yield* readAnywhere(reading, whole)
      const all = new Map<EventId, Event>()
      for (const event of changes.get(roomNid) ?? []) all.set(event.event_id, event)
      for (const { event } of read.get(roomNid) ?? []) all.set(event.event_id, event)
      for (const event of rest) all.set(event.event_id, event)
      const timeline = timelines.get(roomNid) ?? noTimeline
      found.set(roomNid, {
        required: required(reading, all.values(), changes.get(roomNid) ?? [], timeline),
        found: [...all.values()]
      })
    }
    return { states: found, heroes, changes }
  })

  /** The events that are sent. State of a known room is sent only if it changed. */
  const required = (
    { config, former, known, wholeState }: Reading,
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

  const toHeroes = (userIds: ReadonlyArray<UserId>, found: ReadonlyArray<Event>) =>
    userIds.map((user_id) => {
      const member = found.find((event) => isMember(event) && event.state_key === user_id)
      const displayname = textOf(member, "displayname")
      const avatar_url = textOf(member, "avatar_url")
      return {
        user_id,
        ...(displayname === undefined ? {} : { displayname }),
        ...(avatar_url === undefined ? {} : { avatar_url })
      }
    })

  /** Name, avatar and heroes: all of them at first, and later what changed. */
  const summaryOf = (
    { at, known }: Reading,
    found: ReadonlyArray<Event>,
    present: ReadonlyArray<UserId> | undefined
  ) => {
    // Who has entered the room since is nothing for former members.
    const wasThere = (userId: UserId) => found.some((event) => isMember(event) && event.state_key === userId)
    const heroes = hasLeft(at.membership) ? present?.filter(wasThere) : present
    const find = (type: string) => found.find((event) => event.type === type && event.state_key === "")
    const [name, avatar] = [find("m.room.name"), find("m.room.avatar")]
    const text = textOf(name, "name")
    const url = textOf(avatar, "url")
    const isFirst = known === undefined
    return {
      ...(text !== undefined ? { name: text } : name !== undefined && !isFirst ? { name: null } : {}),
      ...(url !== undefined ? { avatar: url } : avatar !== undefined && !isFirst ? { avatar: null } : {}),
      ...(heroes !== undefined && text === undefined ? { heroes: toHeroes(heroes, found) } : {})
    }
  }

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

  const countLive = ({ entries }: Timeline, since: StreamPosition | undefined): number =>
    since === undefined ? 0 : entries.filter(({ position }) => comparePositions(position, since) > 0).length

  /** The answer's rooms between two positions, by number. Known rooms without updates are left out. */
  const read = Effect.fnUntraced(function* (
    session: Session,
    since: StreamPosition | undefined,
    upTo: StreamPosition,
    shown: ReadonlyArray<ShownRoom>,
    direct: ReadonlySet<string>
  ): Effect.fn.Return<ReadonlyMap<number, SlidingAnswerRoom>> {
    const answers = new Map<number, SlidingAnswerRoom>()
    if (shown.length === 0) return answers
    const { userId } = session
    const nids = shown.map(({ room }) => room.roomNid)
    const memberships = new Map(
      (yield* store.memberships(userId, upTo, since, nids)).map((at) => [at.roomNid, at] as const)
    )
    const readings: Array<Reading> = []
    for (const shownRoom of shown) {
      const at = memberships.get(shownRoom.room.roomNid)
      if (at === undefined) continue
      if (at.membership === "invite" || at.membership === "knock") {
        const stripped = yield* strippedRoom(userId, shownRoom, at)
        if (stripped !== undefined) answers.set(at.roomNid, { roomId: at.roomId, answer: stripped })
      } else readings.push(toReading(shownRoom, at, since, upTo))
    }
    const joined = readings.filter(({ at }) => at.membership === "join")
    const unknown = new Set(shown.flatMap(({ known, room }) => (known === undefined ? [room.roomNid] : [])))
    const ignored = yield* ignoredUsers.of(userId)
    const timelines = yield* readTimelines(userId, readings, ignored)
    const { changes, heroes, states: found } = yield* readStates(userId, readings, timelines)
    const [counts, bumps, unreadCounts] = yield* Effect.all([
      store.memberCounts([
        ...joined
          .filter(({ known, roomNid }) => known === undefined || heroes.has(roomNid))
          .map(({ roomNid }) => roomNid)
      ]),
      rooms.bumpStamps(
        joined.map(({ roomNid }) => roomNid),
        upTo
      ),
      unread.count(
        userId,
        joined.map(({ at, roomNid }) => ({ roomNid, joinedAt: at.changedAt })),
        upTo,
        ignored,
        true
      )
    ])
    const renderRoom = Effect.fnUntraced(function* (reading: Reading) {
      const { at, config, expanded, known, lists, room, roomNid } = reading
      const timeline = timelines.get(roomNid) ?? noTimeline
      const { found: all, required: sent } = found.get(roomNid) ?? { required: [], found: [] }
      const isFirst = known === undefined
      const isNews =
        isFirst ||
        expanded ||
        timeline.entries.length > 0 ||
        sent.length > 0 ||
        changes.has(roomNid) ||
        hasLeft(at.membership)
      if (!isNews) return
      const [timelineEvents, stateEvents]: ReadonlyArray<ReadonlyArray<ClientServerEvent>> = yield* Effect.all([
        renderer.render(
          session,
          timeline.entries.map(({ event }) => event),
          {
            withoutRoomId: true,
            bundleFor: isFirst || timeline.limited ? readerOf(userId, at) : undefined,
            memberships: membershipsAt(session.userId, at, timeline.entries)
          }
        ),
        renderer.render(session, sent, { withoutRoomId: true })
      ])
      const first = timeline.entries[0]
      const count = counts.get(roomNid)
      const { highlight_count = 0, notification_count = 0 } = unreadCounts.get(roomNid)?.unread_notifications ?? {}
      const answer: SlidingRoom = {
        ...(isFirst || unknown.has(roomNid) ? { initial: true } : {}),
        membership: at.membership,
        ...(lists.length === 0 ? {} : { lists }),
        ...summaryOf(reading, all, heroes.get(roomNid) ?? (isFirst ? [] : undefined)),
        ...(isFirst && direct.has(room.roomId) ? { is_dm: true } : {}),
        bump_stamp: at.membership === "join" ? (bumps.get(roomNid) ?? 0) : at.changedAt.xid,
        required_state: stateEvents ?? [],
        timeline: timelineEvents ?? [],
        limited: timeline.limited || (isFirst && config.timelineLimit === 0),
        ...(expanded ? { expanded_timeline: true, unstable_expanded_timeline: true } : {}),
        num_live: countLive(timeline, known ?? since),
        prev_batch: token(first === undefined ? reading.end : { xid: first.position.xid, nid: first.position.nid - 1 }),
        ...(count === undefined ? {} : { joined_count: count.joined, invited_count: count.invited }),
        notification_count,
        highlight_count
      }
      answers.set(roomNid, { roomId: at.roomId, answer })
    })
    yield* Effect.forEach(readings, renderRoom, { concurrency: 4, discard: true })
    return answers
  })

  return { read }
})
