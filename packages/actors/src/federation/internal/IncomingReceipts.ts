/**
 * Receipts of users of other servers: of members, where the room admits their server, and of events of the thread that they name:
 * the number of receipts in a room is bounded by its members and events. A receipt of an event that is not stored yet
 * waits for it, within bounds: the event may come from another server, or with the next transaction. `EarlyReceiptStore` keeps
 * the receipts that wait. The node that received one applies it as soon as the event is committed; the periodic sweep of every
 * node applies the others, among them those of nodes that have ended.
 *
 * Source: "Receipts" of the server-server specification.
 */
import type { RemoteReceipt } from "@greenroom/protocol/federation/Edu"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { type EarlyReceipt, EarlyReceiptStore } from "@greenroom/store/EarlyReceiptStore"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { type RoomOfUser, RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { periodically } from "@greenroom/store/Supervision"
import { Effect } from "effect"
import { isOfThread } from "../../room/ReceiptThreads.ts"
import { admits } from "../../room/ServerAcl.ts"

/** The interval between two queries for receipts whose events have arrived. */
const sweepInterval = "10 minutes"

/** How many events for which receipts wait a node recognises when they are committed. */
const maxAwaited = 10_000

export const makeIncomingReceipts = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const events = yield* EventStore
  const receipts = yield* ReceiptStore
  const states = yield* StateStore
  const early = yield* EarlyReceiptStore
  const scope = yield* Effect.scope
  /** Events for which receipts wait, oldest first: those that this node has received, or found in the last sweep. */
  const awaited = new Set<EventId>()

  /** Whether the m.room.server_acl of the room lets the server take part in it. */
  const isAdmitted = Effect.fnUntraced(function* (origin: ServerName, { current, roomNid }: RoomOfUser) {
    if (current === undefined) return false
    const keys = [["m.room.server_acl", ""]] as const
    const [acl] = yield* states.read([{ roomNid, ref: current }], { keys })
    return admits(() => acl?.event, origin)
  })

  /** The receipts of members whose server may take part in the room. */
  const ofMembers = Effect.fnUntraced(function* (given: ReadonlyArray<EarlyReceipt>) {
    const nameOf = ({ roomId, userId }: Pick<RoomOfUser, "roomId" | "userId">) => `${userId} ${roomId}`
    const joined = new Map((yield* rooms.joinedOf(given)).map((room) => [nameOf(room), room]))
    const admitted = new Map<string, boolean>()
    const found: Array<EarlyReceipt & { readonly roomNid: number }> = []
    for (const receipt of given) {
      const { origin, roomId } = receipt
      const room = joined.get(nameOf(receipt))
      if (room === undefined) continue
      const key = `${origin} ${roomId satisfies RoomId}`
      const isIn = admitted.get(key) ?? (yield* isAdmitted(origin, room))
      admitted.set(key, isIn)
      if (isIn) found.push({ ...receipt, roomNid: room.roomNid })
    }
    return found
  })

  const byIds = (ids: ReadonlyArray<EventId>) =>
    Effect.map(
      ids.length === 0 ? Effect.succeed([]) : events.byIds(ids),
      (found) => new Map(found.map((storedEvent) => [storedEvent.event.event_id, storedEvent]))
    )

  /** Stores receipts. Returns those whose events are not stored yet. */
  const take = Effect.fnUntraced(function* (given: ReadonlyArray<EarlyReceipt>) {
    const found = yield* byIds(given.map(({ eventId }) => eventId))
    const isElsewhere = ({ eventId, roomId }: EarlyReceipt) => {
      const read = found.get(eventId)
      return read !== undefined && read.event.room_id !== roomId
    }
    const taken: Array<EarlyReceipt> = []
    const unknown: Array<EarlyReceipt> = []
    for (const receipt of yield* ofMembers(given.filter((entry) => !isElsewhere(entry)))) {
      const { eventId, roomNid, threadId, ts, userId } = receipt
      const read = found.get(eventId)
      if (read === undefined) unknown.push(receipt)
      else if (threadId === undefined || (yield* isOfThread(events, read.event, threadId))) {
        yield* receipts.set({ roomNid, userId, type: "m.read", threadId, eventId, event: read.position, ts })
        taken.push(receipt)
      }
    }
    return { taken, unknown }
  })

  const expect = (eventIds: Iterable<EventId>): void => {
    for (const eventId of eventIds) awaited.add(eventId)
    for (const eventId of awaited) {
      if (awaited.size <= maxAwaited) return
      awaited.delete(eventId)
    }
  }

  /** Stores those of the waiting receipts whose events are stored by now. A repetition changes nothing. */
  const applyStored = Effect.fnUntraced(function* (waiting: ReadonlyArray<EarlyReceipt>) {
    const here = yield* byIds(waiting.map(({ eventId }) => eventId))
    const due = waiting.filter(({ eventId }) => here.has(eventId))
    if (due.length > 0) yield* take(due)
    yield* early.remove(due)
  })

  const receive = Effect.fnUntraced(function* (origin: ServerName, content: ReadonlyArray<RemoteReceipt>) {
    const { taken, unknown } = yield* take(content.map((receipt) => ({ origin, ...receipt })))
    // A user whose receipt waits has read further.
    if (awaited.size > 0) yield* early.supersede(taken)
    if (unknown.length === 0) return
    expect(unknown.map(({ eventId }) => eventId))
    yield* early.keep(unknown)
    // Their events may have been committed in between.
    yield* applyStored(unknown)
  })

  const quietly = (work: Effect.Effect<void>) =>
    Effect.catchCause(work, (cause) => Effect.logDebug("Waiting receipts remain for the next sweep", cause))

  const sweep = Effect.gen(function* () {
    const waiting = yield* early.all
    expect(waiting.map(({ eventId }) => eventId))
    yield* applyStored(waiting)
  })

  yield* periodically("Storing receipts whose events have come", sweepInterval, sweep, { atOnce: true })

  yield* (yield* EventLog).follow(({ events: committed }) =>
    Effect.suspend(() => {
      if (awaited.size === 0) return Effect.void
      const came = committed.map(({ event }) => event.event_id).filter((eventId) => awaited.delete(eventId))
      if (came.length === 0) return Effect.void
      return Effect.asVoid(Effect.forkIn(quietly(Effect.flatMap(early.waitingFor(came), applyStored)), scope))
    })
  )

  return { receive }
})
