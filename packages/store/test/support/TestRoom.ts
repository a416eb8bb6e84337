/**
 * Rooms for tests of the store: events without signatures, and the commits that store them.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { AuthChainStore } from "../../src/AuthChainStore.ts"
import { EventLog, type LoggedEvent, type MembershipChange, type RoomCommit } from "../../src/EventLog.ts"
import { EventStore } from "../../src/EventStore.ts"
import { RoomStore } from "../../src/RoomStore.ts"
import { StateStore } from "../../src/StateStore.ts"

/** The services over one database, as one node has them. */
export const stores = Layer.mergeAll(AuthChainStore.layer, EventStore.layer, RoomStore.layer, StateStore.layer).pipe(
  Layer.provideMerge(EventLog.layer)
)

export const alice = "@alice:example.org" as UserId
export const bob = "@bob:example.org" as UserId

let numbers = 0

/** A new event of the room; `more` replaces its fields. */
export const makeEvent = (roomId: RoomId, more: Partial<Event> = {}): Event => ({
  event_id: `$${++numbers}:example.org` as EventId,
  room_id: roomId,
  type: "m.room.message",
  sender: alice,
  origin: "example.org" as never,
  origin_server_ts: 1_000_000,
  content: { msgtype: "m.text", body: `number ${numbers}` },
  prev_events: [],
  auth_events: [],
  depth: numbers,
  hashes: { sha256: "" },
  signatures: {},
  ...more
})

export const memberEvent = (roomId: RoomId, userId: UserId, membership: string, sender = userId): Event =>
  makeEvent(roomId, { type: "m.room.member", state_key: userId, sender, content: { membership } })

/** A room as one writer has opened it. */
export interface Writer {
  readonly roomId: RoomId
  readonly roomNid: number
  readonly fence: number
}

/** Opens the room, which is made if it does not exist. */
export const openRoom = Effect.fnUntraced(function* (localpart: string): Effect.fn.Return<Writer, never, RoomStore> {
  const rooms = yield* RoomStore
  const roomId = `!${localpart}:example.org` as RoomId
  yield* rooms.prepare(roomId, "0", "public")
  const { fence, roomNid } = Option.getOrThrow(yield* rooms.open(roomId))
  return { roomId, roomNid, fence }
})

const nextNid = Effect.gen(function* () {
  const { nids } = yield* EventLog
  if (!nids.hasUnsafe(1)) yield* nids.refill(1)
  return nids.takeUnsafe()!
})

/** The commit of some events, each with the state `chain` 1. Memberships follow from m.room.member events. */
export const commitOf = Effect.fnUntraced(function* (
  { fence, roomId, roomNid }: Writer,
  events: ReadonlyArray<Event>,
  more: Partial<RoomCommit> = {}
): Effect.fn.Return<RoomCommit, never, EventLog> {
  const logged = yield* Effect.forEach(events, (event) =>
    Effect.map(nextNid, (nid): LoggedEvent => ({ nid, event, status: 0, stateBefore: { chain: 1, seq: nid } }))
  )
  const memberships = logged
    .filter(({ event }) => event.type === "m.room.member")
    .map(
      ({ event, nid }): MembershipChange => ({
        userId: event.state_key as UserId,
        membership: String(event.content.membership),
        sender: event.sender,
        eventNid: nid,
        causedBy: nid,
        local: true
      })
    )
  return {
    roomNid,
    roomId,
    fence,
    events: logged,
    chains: [],
    deltas: [],
    memberships,
    transactions: [],
    outgoing: [],
    redactions: [],
    summary: {
      forwardExtremities: events.slice(-1).map((event) => event.event_id),
      currentState: { chain: 1, seq: 0 },
      name: null,
      topic: null,
      joinedMembers: 0
    },
    ...more
  }
})

/** Commits the events and waits until they are durable. */
export const store = Effect.fnUntraced(function* (
  writer: Writer,
  events: ReadonlyArray<Event>,
  more: Partial<RoomCommit> = {}
) {
  const log = yield* EventLog
  yield* log.append(yield* commitOf(writer, events, more))
  return events
})
