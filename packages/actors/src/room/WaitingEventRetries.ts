/**
 * Tries again to place events of other servers that wait for events before them, when the server starts and after waits that grow: a
 * server that did not answer may do so by now. No later event may lead to them.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { type WaitingEvent, WaitingEventStore } from "@greenroom/store/WaitingEventStore"
import { Clock, Effect } from "effect"
import { ask } from "../runtime/Ask.ts"
import { keepFinishing } from "../runtime/UnfinishedWork.ts"
import { Room } from "./RoomProtocol.ts"

/** How long removals of our users wait for the events before them, until they are judged without those, in ms. */
const longestRemovalWait = 24 * 3_600_000

/** Events of one server to one room. */
interface WaitingGroup {
  readonly roomId: RoomId
  readonly origin: ServerName
  readonly events: ReadonlyArray<Event>
  readonly isLate: boolean
}

const groupsOf = (waiting: ReadonlyArray<WaitingEvent>, now: number): ReadonlyArray<WaitingGroup> => {
  const isLate = ({ since }: WaitingEvent) => since <= now - longestRemovalWait
  const keyOf = (entry: WaitingEvent) => `${entry.event.room_id} ${entry.origin} ${isLate(entry)}`
  return [...Map.groupBy(waiting, keyOf).values()].map((of) => {
    const [first] = of as [WaitingEvent]
    const events = of.map(({ event }) => event)
    return { roomId: first.event.room_id, origin: first.origin, events, isLate: isLate(first) }
  })
}

/** Tries all waiting events again, in the background. */
export const placeWaitingEvents = Effect.gen(function* () {
  const room = yield* Room.client
  const store = yield* WaitingEventStore

  /** The room removes those that it has placed. */
  const finish = ({ events, isLate, origin, roomId }: WaitingGroup) =>
    Effect.catchTag(
      Effect.asVoid(ask(room(roomId).Receive({ origin, events, isLate, caution: "faults" }))),
      "M_NOT_FOUND",
      () =>
        store.remove(
          roomId,
          events.map(({ event_id }) => event_id)
        )
    )

  const take = Effect.fnUntraced(function* (which: "due" | "all") {
    return groupsOf(yield* store.take(which), yield* Clock.currentTimeMillis)
  })

  yield* keepFinishing({
    name: "Placing events that wait for others",
    kind: "waiting events",
    table: { take, nextAt: store.nextAt },
    whenNodesChange: "all",
    nameOf: ({ events, origin, roomId }) => `Placing ${events.length} waiting events of ${origin} in ${roomId}`,
    finish
  })
})
