/**
 * Events of other servers to a room that cannot be placed, because events before them are missing and no server returns those. They are
 * placed when the missing events have come, which another server may send later. No later event may lead to them: a server that
 * removes our last user from a room refuses our questions from then on, and sends nothing more.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { EventId } from "@greenroom/protocol/Identifiers"
import { type WaitingEvent, WaitingEventStore } from "@greenroom/store/WaitingEventStore"
import { Effect } from "effect"
import type { RoomWriter } from "./RoomWriter.ts"

export const makeWaitingEvents = Effect.fnUntraced(function* ({ roomId }: RoomWriter) {
  const store = yield* WaitingEventStore
  /** False if no events of the room wait: the database need not be asked. Undefined if that is not known yet. */
  let mayWait: boolean | undefined

  const whileWaiting = <A>(work: Effect.Effect<A>, otherwise: A): Effect.Effect<A> =>
    Effect.gen(function* () {
      mayWait ??= yield* store.hasAny(roomId)
      return mayWait ? yield* work : otherwise
    })

  /** Keeps events until they are placed, within bounds. */
  const keep = Effect.fnUntraced(function* (waiting: Iterable<Omit<WaitingEvent, "since">>) {
    for (const [origin, of] of Map.groupBy(waiting, (entry) => entry.origin)) {
      mayWait = true
      yield* store.keep(
        roomId,
        origin,
        of.map(({ event }) => event)
      )
    }
  })

  /** The events that name one of these as their predecessor or as an auth event. */
  const after = (ids: ReadonlySet<EventId>) => whileWaiting(store.after(roomId, ids), [])

  /** These events wait no longer. */
  const remove = (ids: ReadonlySet<EventId>) =>
    whileWaiting(
      Effect.gen(function* () {
        yield* store.remove(roomId, ids)
        mayWait = yield* store.hasAny(roomId)
      }),
      undefined
    )

  return { keep, after, remove }
})
