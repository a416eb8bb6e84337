/**
 * The rooms of a `/sync` answer: those that the user is in, was invited to, knocks at, and has left, each with its updates
 * between two positions.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { type StrippedEvent, toStrippedEvent } from "@greenroom/protocol/client-server/ClientEvent"
import { allowsRoom, compileFields, compileFilter, type Filter } from "@greenroom/protocol/client-server/Filter"
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { EventLog } from "@greenroom/store/EventLog"
import { ForgottenRoomStore } from "@greenroom/store/ForgottenRoomStore"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { beginning, comparePositions, formatToken, type StreamPosition } from "@greenroom/store/StreamToken"
import { type MembershipAt, SyncStore, type TimelineEntry } from "@greenroom/store/SyncStore"
import { Effect, Option, Struct } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { receiptEvents } from "../../presence/ReceiptEvents.ts"
import { makeEventRenderer, type RenderedList } from "../../room/EventRenderer.ts"
import { makeEventSelections } from "../../room/EventSelection.ts"
import { makeHistoryVisibility } from "../../room/HistoryVisibility.ts"
import { allowAll, makeInvitePermission } from "../../room/InvitePermission.ts"
import type { Session } from "../../runtime/Session.ts"
import { type IgnoredUsers, makeIgnoredUsers, withoutIgnored } from "../../user/IgnoredUsers.ts"
import { makeUnreadCounts } from "../../user/push/UnreadCounts.ts"
import type { SimpleEvent, SyncAnswer, SyncedRoom } from "../SyncAnswer.ts"
import { membershipsAt } from "./MembershipAtEvents.ts"
import { SentMembers } from "./SentMembers.ts"
import { makeSyncState, type WantedMembers, type WantedState } from "./SyncState.ts"

/** How many events a timeline has where the filter does not say, and at most. */
export const defaultTimeline = 10
const maxTimeline = 1_000
/** How many events are read to find those that pass a filter. */
const maxScanned = 1_000
/** The most bytes of one room's timeline in an answer. */
const maxRoomBytes = 2 * 1024 * 1024
/** How many timelines are read at once, and how many bytes they have then. */
const readAtOnce = 256
const maxBytesAtOnce = 32 * 1024 * 1024
const maxHeroes = 5

/** State that a user may see of a room before they enter it. */
const strippedTypes = [
  "m.room.create",
  "m.room.join_rules",
  "m.room.name",
  "m.room.avatar",
  "m.room.topic",
  "m.room.canonical_alias",
  "m.room.encryption"
]

/** The request, and the positions between which it reads. */
export interface SyncRange {
  readonly session: Session
  /** Undefined for the first answer. */
  readonly since: StreamPosition | undefined
  readonly upTo: StreamPosition
  readonly filter: Filter
  /** Sends the whole state of every room. */
  readonly fullState: boolean
  /** Sends the state at the end of the timeline instead of at its beginning. */
  readonly stateAfter: boolean
  /** The name of a device that gets a membership once (`lazyDevice`). */
  readonly lazyDevice?: string | undefined
  /** The rooms that have news, where that is known. */
  readonly roomNids?: ReadonlyArray<number> | undefined
}

/** How many reads of one answer are under way at a time: a first answer is large, others are many. */
export const concurrencyOf = ({ fullState, since }: Pick<SyncRange, "fullState" | "since">): number =>
  since === undefined || fullState ? 4 : 1

/** The same, with the data read for all rooms. */
interface RoomsRange extends SyncRange {
  readonly ignored: IgnoredUsers
}

/** Types of state that name a room. */
const nameTypes: ReadonlySet<string> = new Set(["m.room.name", "m.room.canonical_alias"])

export interface SyncedRooms {
  readonly rooms: SyncAnswer["rooms"]
  readonly accountData: ReadonlyArray<SimpleEvent>
  /** The rooms that the user has entered since the former answer. */
  readonly entered: ReadonlyArray<number>
}

/** A room whose timeline is in the answer. */
interface Reading extends MembershipAt {
  /** The start of the answer: undefined if the room is new to the client. */
  readonly known: StreamPosition | undefined
  /** The last position of the timeline: the end of the answer, or the user's leave. */
  readonly end: StreamPosition
}

/**
 * Whether a timeline has events from a time in which the user was not in the room: the first timeline of a room, and one during which
 * the membership of the user changed.
 */
const mayHaveBeenAway = ({ changedAt, known }: Reading): boolean =>
  known === undefined || comparePositions(changedAt, known) > 0

const before = ({ position }: TimelineEntry): StreamPosition => ({ xid: position.xid, nid: position.nid - 1 })

/** Whether an event may change the summary of its room: its counts and heroes. */
const isOfSummary = ({ type }: Pick<Event, "type">): boolean => type === "m.room.member" || nameTypes.has(type)

const isMembership = ({ type }: Pick<Event, "type">): boolean => type === "m.room.member"

const isFilled = (value: unknown): boolean => typeof value === "string" && value !== ""

/** Whether an event gives its room a name: clients need no heroes then. */
const isNaming = ({ content, type }: Event): boolean =>
  type === "m.room.name" ? isFilled(content.name) : type === "m.room.canonical_alias" && isFilled(content.alias)

/** The sender of the user's membership in stripped state. */
const inviterOf = (userId: UserId, events: ReadonlyArray<StrippedEvent>): UserId =>
  (events.findLast(({ state_key, type }) => type === "m.room.member" && state_key === userId)?.sender as UserId) ??
  userId

const isFilledSection = (section: { readonly events: ReadonlyArray<unknown> } | undefined): boolean =>
  section !== undefined && section.events.length > 0

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
    if (!sections.some(isFilledSection)) answers.delete(roomId)
  }
}

const partition = <A>(all: ReadonlyArray<A>, isFirst: (item: A) => boolean) =>
  [all.filter(isFirst), all.filter((item) => !isFirst(item))] as const

const hasLeft = (membership: string): boolean => membership === "leave" || membership === "ban"

export const makeSyncRooms = Effect.fnUntraced(function* (sentMembers = new SentMembers()) {
  const log = yield* EventLog
  const store = yield* SyncStore
  const states = yield* StateStore
  const forgotten = yield* ForgottenRoomStore
  const receipts = yield* ReceiptStore
  const accountData = yield* AccountDataStore
  const ephemeralStream = yield* EphemeralStream
  const state = yield* makeSyncState
  const ignoredUsers = yield* makeIgnoredUsers
  const invitePermission = yield* makeInvitePermission
  const unread = yield* makeUnreadCounts
  const renderer = yield* makeEventRenderer
  const selectionOf = yield* makeEventSelections
  const versions = yield* RoomStore
  const { openTo, visibleTo } = yield* makeHistoryVisibility

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /** The newest events of each room that pass the filter, and whether there are more of them. */
  const readTimelines = Effect.fnUntraced(function* (
    range: RoomsRange,
    rooms: ReadonlyArray<Reading>
  ): Effect.fn.Return<Map<number, { readonly entries: ReadonlyArray<TimelineEntry>; readonly limited: boolean }>> {
    const timeline = range.filter.room?.timeline
    const selection = selectionOf(timeline)
    const limit = Math.min(timeline?.limit ?? defaultTimeline, maxTimeline)
    const isEverything = selection.isEverything && range.ignored.size === 0
    const scanned = isEverything ? limit + 1 : Math.max(limit + 1, maxScanned)
    const found = new Map<number, { readonly entries: ReadonlyArray<TimelineEntry>; readonly limited: boolean }>()
    if (rooms.length > readAtOnce) {
      for (let start = 0; start < rooms.length; start += readAtOnce) {
        const some = yield* readTimelines(range, rooms.slice(start, start + readAtOnce))
        for (const [roomNid, timeline] of some) found.set(roomNid, timeline)
      }
      return found
    }
    const { userId } = range.session
    const [{ cut, entries }, open] = yield* Effect.all(
      [
        store.timelines(
          rooms.map(({ end, known, roomNid }) => ({ roomNid, after: known ?? beginning, upTo: end })),
          scanned,
          Math.min(maxRoomBytes, maxBytesAtOnce / rooms.length)
        ),
        openTo(rooms.filter(mayHaveBeenAway).map((room) => readerOf(userId, room)))
      ],
      { concurrency: concurrencyOf(range) }
    )
    const byRoom = Map.groupBy(entries, ({ roomNid }) => roomNid)
    for (const room of rooms) {
      const read = byRoom.get(room.roomNid) ?? []
      const isShown = !mayHaveBeenAway(room) || open.has(room.roomNid)
      const visible = isShown ? read : yield* visibleIn(userId, room, read)
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

  const readerOf = (userId: UserId, { changedAt, membership, roomNid }: Reading) => ({
    userId,
    roomNid,
    isJoined: membership === "join",
    leftAt: hasLeft(membership) ? changedAt : undefined
  })

  /** The senders whose memberships the client needs to show the timeline. */
  const wantedMembers = (range: SyncRange, shown: ReadonlyArray<TimelineEntry>, isNew: boolean): WantedMembers => {
    if (!range.filter.room?.state?.lazy_load_members) return "all"
    const wanted = new Set(shown.map(({ event }) => event.sender))
    // The state after the timeline is all that tells a client about the memberships in it.
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
    { fullState, lazyDevice, stateAfter, upTo }: SyncRange,
    { known, roomNid }: Reading,
    timeline: ReadonlyArray<Event>,
    state: ReadonlyArray<Event>
  ) => {
    if (lazyDevice === undefined) return
    if (known === undefined || fullState) sentMembers.forgetRoom(lazyDevice, roomNid)
    const inOrder = stateAfter ? [...timeline, ...state] : [...state, ...timeline]
    sentMembers.note(lazyDevice, roomNid, inOrder.filter(isMembership), upTo)
  }

  interface StatesOfRooms {
    readonly timelines: ReadonlyMap<number, { readonly entries: ReadonlyArray<TimelineEntry> }>
    readonly known: ReadonlyMap<number, StateRef>
    readonly ends: ReadonlyMap<number, StateRef>
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
    for (let start = 0; start < wanted.length; start += readAtOnce) {
      const some = yield* state.readStates(wanted.slice(start, start + readAtOnce))
      for (const [roomNid, events] of some) stateOfRooms.set(roomNid, events.filter(matches))
    }
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

  /** The rooms that have a name or an alias. */
  const namedRooms = Effect.fnUntraced(function* (
    rooms: ReadonlyArray<Reading>,
    ends: ReadonlyMap<number, StateRef>
  ): Effect.fn.Return<ReadonlySet<number>> {
    const wanted = rooms.flatMap(({ roomNid }) => {
      const ref = ends.get(roomNid)
      return ref === undefined ? [] : [{ roomNid, ref }]
    })
    const keys = Array.from(nameTypes, (type) => [type, ""] as const)
    const entries = wanted.length === 0 ? [] : yield* states.read(wanted, { keys })
    return new Set(entries.filter(({ event }) => isNaming(event)).map(({ roomNid }) => roomNid))
  })

  /** Counts and heroes are sent where memberships or names may have changed. */
  const readSummaries = Effect.fnUntraced(function* ({ session }: SyncRange, rooms: ReadonlyArray<Reading>) {
    const roomNids = rooms.map(({ roomNid }) => roomNid)
    const [counts, heroes] = yield* Effect.all([
      store.memberCounts(roomNids),
      store.heroes(session.userId, roomNids, maxHeroes)
    ])
    return new Map(
      roomNids.map((roomNid) => [
        roomNid,
        {
          "m.heroes": heroes.get(roomNid) ?? [],
          "m.joined_member_count": counts.get(roomNid)?.joined ?? 0,
          "m.invited_member_count": counts.get(roomNid)?.invited ?? 0
        }
      ])
    )
  })

  /** How the filter wants events: as PDUs, with some of their fields. */
  const formatOf = Effect.fnUntraced(function* ({ event_fields, event_format }: Filter, roomId: RoomId) {
    const version = event_format === "federation" ? Option.getOrUndefined(yield* versions.version(roomId)) : undefined
    return { pick: compileFields(event_fields), toPdu: version === undefined ? undefined : roomVersion(version)?.toPdu }
  })

  /** The news of rooms whose timeline is in the answer. */
  const readRooms = Effect.fnUntraced(function* (range: RoomsRange, rooms: ReadonlyArray<Reading>) {
    const { session } = range
    const [fresh, others] = partition(rooms, ({ known }) => known === undefined)
    const [timelines, knownStates, endStates, freshSummaries] = yield* Effect.all(
      [
        readTimelines(range, rooms),
        store.statesAt(others.map(({ known, roomNid }) => ({ roomNid, at: known! }))),
        store.statesAt(rooms.map(({ end, roomNid }) => ({ roomNid, at: end }))),
        readSummaries(range, fresh)
      ],
      { concurrency: concurrencyOf(range) }
    )
    const [states, freshNamed] = yield* Effect.all(
      [readStates(range, rooms, { timelines, known: knownStates, ends: endStates }), namedRooms(fresh, endStates)],
      { concurrency: concurrencyOf(range) }
    )
    const changed = others.filter(
      ({ roomNid }) =>
        states.get(roomNid)?.some(isOfSummary) ||
        timelines.get(roomNid)?.entries.some(({ event }) => isOfSummary(event))
    )
    const summaries = new Map([...freshSummaries, ...(yield* readSummaries(range, changed))])
    const named = new Set([...freshNamed, ...(yield* namedRooms(changed, endStates))])
    const lists: Array<RenderedList> = []
    for (const room of rooms) {
      const { known, roomId, roomNid } = room
      const { entries, limited } = timelines.get(roomNid) ?? { entries: [], limited: false }
      // Events that were sent before get their new relations as events of their own.
      const bundleIn = limited || known === undefined ? roomNid : undefined
      const format = yield* formatOf(range.filter, roomId)
      const shown = entries.map(({ event }) => event)
      noteMembers(range, room, shown, states.get(roomNid) ?? [])
      const memberships = membershipsAt(session.userId, room, entries)
      lists.push({ events: shown, withoutRoomId: true, bundleIn, memberships, ...format })
      lists.push({ events: states.get(roomNid) ?? [], withoutRoomId: true, ...format })
    }
    const rendered = yield* renderer.renderLists(session, lists)
    const answers = new Map<RoomId, SyncedRoom>()
    rooms.forEach((room, index) => {
      const { entries, limited } = timelines.get(room.roomNid) ?? { entries: [], limited: false }
      const [timeline, stateEvents] = [rendered[2 * index]!, rendered[2 * index + 1]!]
      // Before a whole timeline there is nothing. Its token is that of its end, by which clients read the members of that time too.
      const first = limited || room.known !== undefined ? entries[0] : undefined
      const whole = summaries.get(room.roomNid)
      const summary = named.has(room.roomNid) && whole !== undefined ? Struct.omit(whole, ["m.heroes"]) : whole
      answers.set(room.roomId, {
        timeline: {
          events: timeline,
          limited,
          prev_batch: token(first === undefined ? room.end : before(first))
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
        after: { ...changedAt, nid: changedAt.nid - 1 },
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

  /**
   * The view of a room before the user enters it: stripped state, and the membership event itself. Clients show an
   * invitation with its time and sort rooms by it.
   */
  const readStripped = Effect.fnUntraced(function* (userId: UserId, room: MembershipAt) {
    const own = yield* store.timelines(
      [{ roomNid: room.roomNid, after: { ...room.changedAt, nid: room.changedAt.nid - 1 }, upTo: room.changedAt }],
      1,
      maxRoomBytes
    )
    const event = own.entries[0]?.event
    const current = yield* store.statesAt([{ roomNid: room.roomNid, at: room.changedAt }])
    const ref = current.get(room.roomNid)
    const fromState =
      ref === undefined
        ? []
        : (yield* states.read([{ roomNid: room.roomNid, ref }], {
            keys: [
              ...strippedTypes.map((type) => [type, ""] as const),
              ...(event === undefined ? [] : [["m.room.member", event.sender] as const])
            ]
          })).map((entry) => toStrippedEvent(entry.event))
    const given = event?.unsigned?.invite_room_state as unknown as ReadonlyArray<StrippedEvent> | undefined
    const isAlone = fromState.length === 0 && given !== undefined
    const membership =
      event === undefined || event.state_key !== userId
        ? []
        : [{ ...toStrippedEvent(event), event_id: event.event_id, origin_server_ts: event.origin_server_ts }]
    return { events: [...(isAlone ? given : fromState), ...membership] }
  })

  /**
   * The rooms whose typing changed; undefined where some changes are forgotten: then the typing of all rooms is news, so that
   * nobody is shown as typing for ever.
   */
  const typingChanged = (since: StreamPosition, upTo: StreamPosition) =>
    Effect.map(ephemeralStream.since(since), ({ complete, updates }): ReadonlySet<RoomId> | undefined =>
      complete
        ? new Set(
            updates
              .filter((update) => update._tag === "typing")
              .filter(({ position }) => comparePositions(position, upTo) <= 0)
              .map(({ roomId }) => roomId)
          )
        : undefined
    )

  /** Account data, receipts and changes of typing in the user's rooms. */
  const readUserData = Effect.fnUntraced(function* (
    { session, since, upTo }: SyncRange,
    joined: ReadonlyArray<MembershipAt>,
    newToClient: ReadonlySet<number>
  ) {
    const written = since === undefined ? undefined : { after: since, upTo }
    const fresh = joined.filter(({ roomNid }) => newToClient.has(roomNid)).map(({ roomNid }) => roomNid)
    const others = joined.filter(({ roomNid }) => !newToClient.has(roomNid)).map(({ roomNid }) => roomNid)
    const [data, newReceipts, allReceipts] = yield* Effect.all([
      accountData.read(session.userId, written),
      written === undefined ? Effect.succeed([]) : receipts.read(session.userId, others, written),
      receipts.read(session.userId, fresh)
    ])
    const typingRooms = since === undefined ? new Set<RoomId>() : yield* typingChanged(since, upTo)
    return { data, receipts: [...newReceipts, ...allReceipts], typingRooms }
  })

  /** Adds the user's data to the answers of rooms; gives the account data that is of no room. */
  const addUserData = (
    { filter, session, upTo }: SyncRange,
    joined: ReadonlyArray<MembershipAt>,
    newToClient: ReadonlySet<number>,
    { data, receipts, typingRooms }: Effect.Success<ReturnType<typeof readUserData>>,
    answers: Map<RoomId, SyncedRoom>
  ) => {
    const roomFilter = filter.room
    const byNid = new Map(joined.map((room) => [room.roomNid, room.roomId]))
    const isJoined = new Set(byNid.values())
    const dataPasses = compileFilter(roomFilter?.account_data)
    const dataByRoom = new Map<RoomId, Array<SimpleEvent>>()
    const global: Array<SimpleEvent> = []
    const globalPasses = compileFilter(filter.account_data)
    for (const { content, roomId, type } of data) {
      const event = { type, content }
      if (roomId === undefined) {
        if (globalPasses({ ...event, sender: session.userId, room_id: "" as RoomId })) global.push(event)
      } else if (isJoined.has(roomId) && dataPasses({ ...event, sender: session.userId, room_id: roomId })) {
        dataByRoom.set(roomId, [...(dataByRoom.get(roomId) ?? []), event])
      }
    }
    const ephemeralPasses = compileFilter(roomFilter?.ephemeral)
    const receiptsByRoom = Map.groupBy(receipts, ({ roomNid }) => roomNid)
    for (const [roomNid, roomId] of byNid) {
      const roomData = dataByRoom.get(roomId)
      const seen = receiptsByRoom.get(roomNid)
      const lastTyping = ephemeralStream.lastTyping(roomId)
      const typing = (newToClient.has(roomNid) ? lastTyping !== undefined : (typingRooms?.has(roomId) ?? true))
        ? [{ type: "m.typing", content: { user_ids: lastTyping ?? [] } }]
        : []
      const ephemeral = [...typing, ...(seen === undefined ? [] : receiptEvents(seen))].filter((event) =>
        ephemeralPasses({ ...event, content: {}, sender: session.userId, room_id: roomId })
      )
      if (roomData === undefined && ephemeral.length === 0) continue
      const answer = answers.get(roomId) ?? {
        timeline: { events: [], limited: false, prev_batch: token(upTo) }
      }
      answers.set(roomId, {
        ...answer,
        ...(roomData === undefined ? {} : { account_data: { events: roomData } }),
        ...(ephemeral.length === 0 ? {} : { ephemeral: { events: ephemeral } })
      })
    }
    return global
  }

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
    const { filter, fullState, session, since, upTo } = range
    const passes = allowsRoom(filter.room)
    if (since === undefined && range.lazyDevice !== undefined) sentMembers.forget(range.lazyDevice)
    const memberships = (yield* store.memberships(session.userId, upTo, since, range.roomNids)).filter(({ roomId }) =>
      passes(roomId)
    )
    const isNew = ({ changedAt }: MembershipAt) => since === undefined || comparePositions(changedAt, since) > 0
    const joined = memberships.filter(({ membership }) => membership === "join")
    const forgottenRooms =
      since === undefined && filter.room?.include_leave ? yield* forgotten.of(session.userId) : undefined
    const left = memberships.filter(
      (room) =>
        hasLeft(room.membership) &&
        (forgottenRooms?.get(room.roomNid) ?? -1) < room.changedAt.xid &&
        (since === undefined ? (filter.room?.include_leave ?? false) : isNew(room))
    )
    const [leftInside, leftOutside] = partition(left, (room) => room.before === "join" || room.previous === "join")
    const entered = new Set(
      joined.filter((room) => isNew(room) && room.before !== "join").map(({ roomNid }) => roomNid)
    )
    const withNews =
      since === undefined || fullState
        ? new Set(joined.map(({ roomNid }) => roomNid))
        : yield* store.roomsWithNews(
            joined.map(({ roomNid }) => roomNid),
            since,
            upTo
          )
    const reading = [
      ...joined
        .filter(({ roomNid }) => withNews.has(roomNid) || entered.has(roomNid))
        .map((room): Reading => ({ ...room, known: entered.has(room.roomNid) ? undefined : since, end: upTo })),
      ...leftInside.map(
        (room): Reading => ({ ...room, known: room.before === "join" ? since : undefined, end: room.changedAt })
      )
    ]
    const ignored = yield* ignoredUsers.of(session.userId)
    const roomsRange: RoomsRange = { ...range, ignored }
    const newToClient = since === undefined ? new Set(joined.map(({ roomNid }) => roomNid)) : entered
    // A first answer has all rooms, so that nothing has to be known of the answer to count in them.
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
    const data = addUserData(range, joined, newToClient, userData, answers)
    if (!fullState) dropEmpty(answers, joined, newToClient)
    const counted = joined.filter(({ roomId }) => answers.has(roomId))
    const counts = allCounts ?? (yield* readCounts(roomsRange, counted))
    for (const { roomId, roomNid } of counted) {
      answers.set(roomId, { ...answers.get(roomId)!, ...counts.get(roomNid) })
    }
    const invite: Record<string, { readonly invite_state: { readonly events: ReadonlyArray<unknown> } }> = {}
    const knock: Record<string, { readonly knock_state: { readonly events: ReadonlyArray<unknown> } }> = {}
    const answered = memberships.filter(isNew)
    const isInvited = answered.some(({ membership }) => membership === "invite")
    const verdict = isInvited ? yield* invitePermission.of(session.userId) : allowAll
    const isWelcomeFrom = (inviter: UserId) => !ignored.has(inviter) && verdict(inviter) === "allow"
    for (const room of answered) {
      if (room.membership === "invite") {
        const stripped = yield* readStripped(session.userId, room)
        if (isWelcomeFrom(inviterOf(session.userId, stripped.events))) invite[room.roomId] = { invite_state: stripped }
      } else if (room.membership === "knock") {
        knock[room.roomId] = { knock_state: yield* readStripped(session.userId, room) }
      }
    }
    return {
      rooms: {
        join: Object.fromEntries(answers),
        invite,
        knock,
        leave: Object.fromEntries(leave)
      },
      accountData: data,
      entered: since === undefined ? [] : [...entered]
    }
  })

  return { read, readStripped, typingChanged }
})

export type SyncRooms = Effect.Success<ReturnType<typeof makeSyncRooms>>
