/**
 * The thread of an event, for receipts that name one.
 *
 * Source: "Threaded read receipts" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { EventStatus } from "@greenroom/store/EventLog"
import type { EventStore } from "@greenroom/store/EventStore"
import { Effect } from "effect"

/** The thread ID of events outside of threads. */
const mainThread = "main"

/** A reaction to an edit of an event in a thread is the longest chain that clients make. */
const maxRelationDepth = 3

const relationOf = ({ content }: Event): { readonly event_id: EventId; readonly rel_type: unknown } | undefined => {
  const relation = content["m.relates_to"]
  return isJsonObject(relation) && typeof relation.event_id === "string"
    ? { event_id: relation.event_id as EventId, rel_type: relation.rel_type }
    : undefined
}

const isRedacted = ({ unsigned }: Event) => unsigned?.redacted_because !== undefined

/**
 * Whether an event is of a thread: its root or in it, or an edit or a reaction of one of these. The thread of a redacted event is
 * not known: it may be any whose root is in the room. The main timeline has every event outside of threads.
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
  let relation = relationOf(event)
  if (threadId === mainThread) return relation?.rel_type !== "m.thread"
  if (event.event_id === threadId) return true
  if (isRedacted(event)) return (yield* inRoom(threadId)) !== undefined
  for (let depth = 0; depth < maxRelationDepth && relation !== undefined; depth++) {
    if (relation.event_id === threadId) return true
    const parent: Event | undefined = yield* inRoom(relation.event_id)
    relation = parent && relationOf(parent)
  }
  return false
})
