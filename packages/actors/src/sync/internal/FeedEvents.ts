/**
 * What the feeds of this node get from the event log: events of the rooms of their users, and wake-ups for rows of other kinds, which
 * the woken readers read themselves.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { accountDataChanges } from "@greenroom/store/AccountDataChange"
import { setNewest } from "@greenroom/store/BoundedMap"
import { deviceListChanges, userSignatures } from "@greenroom/store/DeviceListStore"
import { EventLog, type LogSlice, type StreamedEvent, type StreamedMembership } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { keyCountChanges } from "@greenroom/store/KeyCountChange"
import { logEpochs } from "@greenroom/store/LogEpoch"
import { rowsOf } from "@greenroom/store/LogKind"
import { receiptChanges } from "@greenroom/store/ReceiptChange"
import { RoomStore } from "@greenroom/store/RoomStore"
import { sessionRevocations } from "@greenroom/store/SessionRevocation"
import type { StateRef } from "@greenroom/store/StateStore"
import { laterPosition } from "@greenroom/store/StreamToken"
import { toDeviceMessages } from "@greenroom/store/ToDeviceMessage"
import { Effect } from "effect"
import { FeedEntry } from "./FeedEntry.ts"
import type { FeedIndex } from "./FeedIndex.ts"
import { RecentEntries } from "./RecentEntries.ts"
import { sameState } from "./SyncState.ts"
import type { UserFeed } from "./UserFeed.ts"

/** The number of rooms whose last state is kept. */
const maxLastStates = 10_000

/** The rooms of users whose device lists changed. */
type RoomsOfChanged = ReadonlyMap<UserId, ReadonlyArray<RoomId>>

const noRooms: RoomsOfChanged = new Map()

/** The feeds whose owners may see rows of other kinds than events. */
const readersOfRows = (feeds: FeedIndex, { rows }: LogSlice, roomsOfChanged: RoomsOfChanged): ReadonlySet<UserFeed> => {
  const readers = new Set<UserFeed>()
  const addOwn = (userId: UserId) => {
    const feed = feeds.get(userId)
    if (feed !== undefined) readers.add(feed)
  }
  const addMembers = (roomId: RoomId) => {
    for (const feed of feeds.inRoom(roomId)) readers.add(feed)
  }
  for (const { row } of rowsOf(rows, accountDataChanges)) addOwn(row.userId)
  for (const { row } of rowsOf(rows, receiptChanges)) {
    if (row.type === "m.read.private") addOwn(row.userId)
    else addMembers(row.roomId)
  }
  for (const { row } of rowsOf(rows, toDeviceMessages)) addOwn(row.userId)
  for (const { row } of rowsOf(rows, userSignatures)) addOwn(row.signer)
  for (const [userId, roomIds] of roomsOfChanged) {
    addOwn(userId)
    for (const roomId of roomIds) addMembers(roomId)
  }
  return readers
}

/** `onSlice` is called with each slice of the log, before the readers of the feeds wake. */
export const makeFeedEvents = Effect.fnUntraced(function* (feeds: FeedIndex, onSlice: (slice: LogSlice) => void) {
  const log = yield* EventLog
  const events = yield* EventStore
  const rooms = yield* RoomStore

  const recent = new RecentEntries()
  /** The states of rooms after their last events. */
  const lastStates = new Map<RoomId, StateRef>()

  /** The state around an event that follows the last one of its room and leaves the state as it is. */
  const stateAround = ({ event: { room_id }, states }: StreamedEvent): StateRef | undefined => {
    const last = lastStates.get(room_id)
    lastStates.delete(room_id)
    if (states === undefined) return undefined
    setNewest(lastStates, room_id, states.after, maxLastStates)
    return sameState(states.before, last) && sameState(states.before, states.after) ? states.after : undefined
  }

  const addTo = (recipients: Iterable<UserFeed>, streamed: StreamedEvent, stateAt?: StateRef) => {
    const entry = new FeedEntry(streamed, stateAt)
    for (const feed of recipients) feed.add(entry)
    const forgotten = recent.add(entry)
    if (forgotten !== undefined) for (const feed of feeds.values()) feed.forgetUpTo(forgotten)
  }

  const applyChange = (feed: UserFeed, change: StreamedMembership) => {
    feed.apply(change)
    if (change.membership === "join") feeds.enter(feed, change.roomId)
    else feeds.quit(feed, change.roomId)
    feed.rowsAt = laterPosition(feed.rowsAt, change.position)
  }

  /** Users whose own membership an event changes get it too. */
  const dispatchEvents = (slice: LogSlice, awake: Set<UserFeed>) => {
    const changes = Map.groupBy(slice.memberships, (change) => change.position.nid)
    for (const streamed of slice.events) {
      const stateAt = stateAround(streamed)
      const members = feeds.inRoom(streamed.event.room_id)
      const moved = changes.get(streamed.position.nid)
      if (members.size === 0 && moved === undefined) continue
      const changed = (moved ?? []).flatMap((change) => {
        const feed = feeds.get(change.userId)
        return feed === undefined ? [] : [{ feed, change }]
      })
      const recipients = new Set(members)
      for (const { feed } of changed) recipients.add(feed)
      if (recipients.size > 0) addTo(recipients, streamed, stateAt)
      for (const feed of recipients) awake.add(feed)
      for (const { change, feed } of changed) applyChange(feed, change)
    }
  }

  const dispatchRows = (slice: LogSlice, roomsOf: RoomsOfChanged, awake: Set<UserFeed>) => {
    const wakeAt = (feed: UserFeed) => {
      feed.rowsAt = laterPosition(feed.rowsAt, slice.last ?? position)
      awake.add(feed)
    }
    for (const feed of readersOfRows(feeds, slice, roomsOf)) wakeAt(feed)
    for (const { row } of [...rowsOf(slice.rows, keyCountChanges), ...rowsOf(slice.rows, sessionRevocations)]) {
      feeds.get(row.userId)?.forgetKeyCounts(row.deviceId)
    }
    for (const { position: begun, row } of rowsOf(slice.rows, logEpochs)) {
      if (!row.fresh) continue
      for (const feed of feeds.values()) {
        feed.forgetAllUpdates(begun)
        wakeAt(feed)
      }
    }
  }

  /** The rooms of users whose keys changed: everybody in them has news. */
  const roomsOfChanged = ({ rows }: LogSlice) => {
    const changed = new Set(rowsOf(rows, deviceListChanges).map(({ row }) => row.userId))
    return changed.size === 0 || feeds.isEmpty() ? Effect.succeed(noRooms) : rooms.joinedRoomsOfAll([...changed])
  }

  /**
   * The step that strips a redacted event in memory too, also from the `prev_content` of later state. It is applied together
   * with the redaction, so that no client reads the content after it has the redaction.
   */
  const strippingFor = Effect.fnUntraced(function* (slice: LogSlice) {
    const redactions = slice.events.filter(({ event }) => event.redacts !== undefined)
    if (redactions.length === 0) return () => {}
    const redacted = new Set(redactions.map(({ event }) => event.redacts!))
    const entries = new Map<EventId, Set<FeedEntry>>()
    for (const roomId of new Set(redactions.map(({ event }) => event.room_id))) {
      for (const feed of feeds.inRoom(roomId)) {
        for (const entry of feed.entriesConcerning(redacted)) {
          entries.set(entry.eventId, (entries.get(entry.eventId) ?? new Set()).add(entry))
        }
      }
    }
    const stored = yield* events.byIds([...entries.keys()])
    return () => {
      for (const { event } of stored) for (const entry of entries.get(event.event_id) ?? []) entry.replace(event)
    }
  })

  let position = yield* log.follow(
    Effect.fnUntraced(function* (slice) {
      const strip = yield* strippingFor(slice)
      const roomsOf = yield* roomsOfChanged(slice)
      const awake = new Set<UserFeed>()
      strip()
      dispatchEvents(slice, awake)
      dispatchRows(slice, roomsOf, awake)
      onSlice(slice)
      position = slice.last ?? position
      for (const feed of awake) feed.wake()
    })
  )

  return {
    /** The position up to which the feeds are complete. */
    position: () => position,
    /** Applies a slice that arrived while the rooms of the user were read. */
    replay: (feed: UserFeed, slice: LogSlice) => {
      const changes = Map.groupBy(slice.memberships, (change) => change.position.nid)
      for (const streamed of slice.events) {
        const own = (changes.get(streamed.position.nid) ?? []).filter((change) => change.userId === feed.userId)
        if (own.length > 0 || feed.rooms.has(streamed.event.room_id)) addTo([feed], streamed)
        for (const change of own) feed.apply(change)
      }
    }
  }
})
