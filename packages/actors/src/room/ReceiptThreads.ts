/**
 * The thread of an event, for receipts that name one.
 *
 * Source: "Threaded read receipts" of the client-server specification.
 */
import { maxThreadHops, relationOf } from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { EventStatus } from "@greenroom/store/EventLog"
import type { EventStore } from "@greenroom/store/EventStore"
import { Effect } from "effect"

/** The thread ID of events outside of threads. */
const mainThread = "main"

const isRedacted = ({ unsigned }: Event) => unsigned?.redacted_because !== undefined

/**
 * Whether a receipt of a thread may be at an event: the root, an event in the thread, or one that relates to the root, which clients show
 * in both timelines. The thread of a redacted event is not known: it may be any whose root is in the room. The main timeline has every
 * event that is in no thread.
 */
export const isOfThread = Effect.fnUntraced(function* (
  events: EventStore["Service"],
  event: Event,
  threadId: string
): Effect.fn.Return<boolean> {
  const inRoom = Effect.fnUntraced(function* (id: string) {
    const [found] = yield* events.byIds([id as EventId])
    const isHere = found?.event.room_id === event.room_id && found.status <= EventStatus.backfilled
    return isHere ? found.event : undefined
  })
  const isMain = threadId === mainThread
  if (event.event_id === threadId) return true
  if (!isMain && isRedacted(event)) return (yield* inRoom(threadId)) !== undefined
  let relation = relationOf(event)
  for (let hops = 1; relation !== undefined && hops <= maxThreadHops; hops++) {
    if (relation.relType === "m.thread") return relation.eventId === threadId
    if (!isMain && relation.eventId === threadId) return true
    const parent: Event | undefined = hops < maxThreadHops ? yield* inRoom(relation.eventId) : undefined
    relation = parent && relationOf(parent)
  }
  return isMain
})
