/**
 * Sends the read receipts of our users to the other servers in their rooms. One node follows the receipts in the log and queues their rooms
 * for the servers in them (`OutgoingReceiptStore`); the `Peer` actors send them. A room is queued at once, and again only after a while
 * that grows with the number of its servers (`RoomPace`): the last receipts of all its users then go together.
 *
 * The stored progress does not pass a receipt that is not queued, so after a crash the next node finds it in the log.
 *
 * Source: "Receipts" of the server-server specification.
 */
import { type ServerName, serverNameOf } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { EventLog, type LogSlice } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { type OutgoingReceipt, OutgoingReceiptStore } from "@greenroom/store/OutgoingReceiptStore"
import { receiptChanges } from "@greenroom/store/ReceiptChange"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect, Latch, Layer } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { inPortions, roomInterval } from "./internal/RoomPace.ts"
import { Peers } from "./Peers.ts"
import type { EduContent } from "./PendingEdus.ts"

/** For how long receipts are gathered before they are queued. */
const gatherTime = "50 millis"

/** For how long a room with few other servers, or none, is not queued again, in ms. */
const leastInterval = 1_000

/** How many rooms are queued at once at most. */
const mostRooms = 500

/** The receipts of users in one room. */
type RoomReceipts = Record<string, JsonObject>

/** Receipts as EDUs: one, unless a user has receipts in several threads of a room, of which an EDU has one. */
export const toReceiptEdus = (receipts: ReadonlyArray<OutgoingReceipt>): ReadonlyArray<EduContent> => {
  const contents: Array<Map<string, RoomReceipts>> = []
  for (const { eventId, roomId, threadId, ts, userId } of receipts) {
    let content = contents.find((rooms) => !Object.hasOwn(rooms.get(roomId) ?? {}, userId))
    if (content === undefined) {
      content = new Map()
      contents.push(content)
    }
    const data = { ts, ...(threadId === undefined ? {} : { thread_id: threadId }) }
    content.set(roomId, { ...content.get(roomId), [userId]: { data, event_ids: [eventId] } })
  }
  return contents.map((rooms) => ({
    edu_type: "m.receipt",
    content: Object.fromEntries(Array.from(rooms, ([roomId, users]) => [roomId, { "m.read": users }]))
  }))
}

const make = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const { serverName } = yield* HomeServerConfig
  const log = yield* EventLog
  const store = yield* OutgoingReceiptStore
  const peers = yield* Peers
  const mayHaveReceipts = Latch.makeUnsafe(true)

  /** Rooms with receipts that are not queued, and the position after which these begin. */
  const pending = new Map<number, StreamPosition>()
  /** When rooms may be queued again, by the monotonic clock. */
  const readyAt = new Map<number, number>()
  /** How far receipts were read, and the stored progress; undefined before the first read. */
  let reached: StreamPosition | undefined
  let stored: StreamPosition | undefined

  const hasReceipts = ({ rows }: LogSlice): boolean =>
    rowsOf(rows, receiptChanges).some(({ row }) => row.type === "m.read" && serverNameOf(row.userId) === serverName)
  yield* log.follow((slice) =>
    Effect.sync(() => {
      if (hasReceipts(slice)) mayHaveReceipts.openUnsafe()
    })
  )

  const awaitReceipts = Effect.gen(function* () {
    const now = yield* monotonicMillis
    for (const [roomNid, time] of readyAt) if (time <= now) readyAt.delete(roomNid)
    const next = Math.min(...Array.from(pending.keys(), (roomNid) => readyAt.get(roomNid) ?? now))
    yield* next === Number.POSITIVE_INFINITY
      ? mayHaveReceipts.await
      : Effect.raceFirst(mayHaveReceipts.await, Effect.sleep(next - now))
  })

  /** Notes the rooms with new receipts. */
  const read = Effect.gen(function* () {
    const { progress, roomNids, upTo } = yield* store.changed(reached, serverName)
    if (stored !== undefined && comparePositions(progress, stored) !== 0) {
      // Another node did this meanwhile.
      pending.clear()
      reached = undefined
      stored = undefined
      mayHaveReceipts.openUnsafe()
      return
    }
    for (const roomNid of roomNids) if (!pending.has(roomNid)) pending.set(roomNid, reached ?? progress)
    stored = progress
    reached = upTo
  })

  const queue = Effect.fnUntraced(function* (reached: StreamPosition) {
    const now = yield* monotonicMillis
    const ready = [...pending].filter(([roomNid]) => (readyAt.get(roomNid) ?? now) <= now).slice(0, mostRooms)
    if (ready.length === 0) return
    const others = new Map(pending)
    for (const [roomNid] of ready) others.delete(roomNid)
    const progress = [...others.values()].reduce((a, b) => (comparePositions(a, b) < 0 ? a : b), reached)
    const servers = yield* store.queue(
      ready.map(([roomNid, after]) => ({ roomNid, after })),
      progress,
      serverName
    )
    stored = progress
    for (const [roomNid] of ready) {
      pending.delete(roomNid)
      readyAt.set(roomNid, now + Math.max(leastInterval, roomInterval(servers.get(roomNid)?.length ?? 0)))
    }
    const woken = new Set<ServerName>([...servers.values()].flat())
    yield* Effect.forkIn(inPortions(woken, peers.wakeForReceipts), scope)
  })

  const step = Effect.gen(function* () {
    yield* awaitReceipts
    yield* Effect.sleep(gatherTime)
    mayHaveReceipts.closeUnsafe()
    yield* read
    if (reached !== undefined) yield* queue(reached)
  })
  yield* keepRunningOnce(
    "Queueing receipts for other servers",
    Effect.onError(step, () => Effect.sync(() => mayHaveReceipts.openUnsafe()))
  )
})

export const layer = Layer.effectDiscard(make)
