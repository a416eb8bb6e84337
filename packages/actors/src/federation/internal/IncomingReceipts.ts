/**
 * Receipts of users of other servers: of members, where the room admits their server. A receipt of an event that is not here yet
 * waits for it, within bounds: the event may come from another server, or with the next transaction.
 *
 * Source: "Receipts" of the server-server specification.
 */
import type { RemoteReceipt } from "@greenroom/protocol/federation/Edu"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { type RoomMembership, RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect, Option } from "effect"
import { admits } from "../../room/ServerAcl.ts"
import { type EarlyReceipt, EarlyReceipts } from "./EarlyReceipts.ts"

export const makeIncomingReceipts = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const events = yield* EventStore
  const receipts = yield* ReceiptStore
  const states = yield* StateStore
  const scope = yield* Effect.scope
  const early = new EarlyReceipts()

  /** Whether the m.room.server_acl of the room lets the server take part in it. */
  const isAdmitted = Effect.fnUntraced(function* (origin: ServerName, { current, roomNid }: RoomMembership) {
    if (current === undefined) return false
    const keys = [["m.room.server_acl", ""]] as const
    const [acl] = yield* states.read([{ roomNid, ref: current }], { keys })
    return admits(() => acl?.event, origin)
  })

  /** Those of members whose server may take part in the room. */
  const ofMembers = Effect.fnUntraced(function* (given: ReadonlyArray<EarlyReceipt>) {
    const admitted = new Map<string, boolean>()
    const found: Array<EarlyReceipt & { readonly roomNid: number }> = []
    for (const { origin, receipt } of given) {
      const membership = yield* rooms.membership(receipt.userId, receipt.roomId)
      if (Option.isNone(membership) || membership.value.membership !== "join") continue
      const key = `${origin} ${receipt.roomId satisfies RoomId}`
      const isIn = admitted.get(key) ?? (yield* isAdmitted(origin, membership.value))
      admitted.set(key, isIn)
      if (isIn) found.push({ origin, receipt, roomNid: membership.value.roomNid })
    }
    return found
  })

  const byIds = (ids: ReadonlyArray<EventId>) =>
    Effect.map(
      ids.length === 0 ? Effect.succeed([]) : events.byIds(ids),
      (found) => new Map(found.map((storedEvent) => [storedEvent.event.event_id, storedEvent]))
    )

  /** Gives the receipts whose events are not here. */
  const take = Effect.fnUntraced(function* (given: ReadonlyArray<EarlyReceipt>) {
    const found = yield* byIds(given.map(({ receipt }) => receipt.eventId))
    const isElsewhere = ({ receipt }: EarlyReceipt) => {
      const read = found.get(receipt.eventId)
      return read !== undefined && read.event.room_id !== receipt.roomId
    }
    const unknown: Array<EarlyReceipt> = []
    for (const entry of yield* ofMembers(given.filter((entry) => !isElsewhere(entry)))) {
      const { eventId, threadId, ts, userId } = entry.receipt
      const read = found.get(eventId)
      if (read === undefined) unknown.push(entry)
      else
        yield* receipts.set({
          roomNid: entry.roomNid,
          userId,
          type: "m.read",
          threadId,
          eventId,
          event: read.position,
          ts
        })
    }
    return unknown
  })

  const receive = Effect.fnUntraced(function* (origin: ServerName, content: ReadonlyArray<RemoteReceipt>) {
    const unknown = yield* take(content.map((receipt) => ({ origin, receipt })))
    if (unknown.length === 0) return
    const now = yield* monotonicMillis
    for (const { origin, receipt } of unknown) early.add({ origin, receipt }, now)
    // Those whose events have come meanwhile.
    const here = yield* byIds(unknown.map(({ receipt }) => receipt.eventId))
    yield* take(early.take(here.keys(), now))
  })

  yield* (yield* EventLog).follow(({ events: committed }) =>
    Effect.suspend(() => {
      if (early.isEmpty || committed.length === 0) return Effect.void
      const came = Effect.flatMap(monotonicMillis, (now) =>
        take(
          early.take(
            committed.map(({ event }) => event.event_id),
            now
          )
        )
      )
      const logged = Effect.catchCause(came, (cause) => Effect.logDebug("Receipts that waited are lost", cause))
      return Effect.asVoid(Effect.forkIn(logged, scope))
    })
  )

  return { receive }
})
