/**
 * Guests in rooms. They leave a room as soon as it does not let guests in any more.
 *
 * The Room actor decides which guests may join. This follows the log for rooms whose `m.room.guest_access` changed, and looks at the
 * start for what a node that ended has left to do.
 *
 * Source: "Guest Access" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { EventLog } from "@greenroom/store/EventLog"
import { RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Layer, Option, Queue } from "effect"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { Rooms } from "./Rooms.ts"

const accessType = "m.room.guest_access"

/** Whether the event lets guests in. A room without one does not. */
export const letsGuestsIn = (event: Event | undefined): boolean => event?.content.guest_access === "can_join"

export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const accounts = yield* AccountStore
    const rooms = yield* Rooms
    const roomStore = yield* RoomStore
    const states = yield* StateStore

    /** Lets the guests of a room leave, where it does not let guests in. */
    const check = Effect.fn("GuestAccess.check")(function* (roomId: RoomId) {
      const current = yield* roomStore.currentState(roomId)
      if (Option.isNone(current)) return
      const { roomNid, state } = current.value
      const [access] = yield* states.read([{ roomNid, ref: state }], { key: [accessType, ""] })
      if (letsGuestsIn(access?.event)) return
      for (const userId of yield* accounts.guestsIn(roomNid)) {
        yield* rooms
          .leave({ userId, tokenId: 0, deviceId: "" }, roomId)
          .pipe(Effect.catchCause((cause) => Effect.logWarning(`The guest ${userId} could not leave ${roomId}`, cause)))
      }
    })

    const changed = yield* Queue.unbounded<RoomId>()
    yield* (yield* EventLog).follow(({ events }) =>
      Effect.sync(() => {
        for (const { event } of events) {
          if (event.type === accessType && event.state_key === "" && !letsGuestsIn(event)) {
            Queue.offerUnsafe(changed, event.room_id)
          }
        }
      })
    )
    yield* keepRunning("Letting guests leave rooms", Effect.flatMap(Queue.take(changed), check))
    const sweep = Effect.flatMap(accounts.roomsOfGuests, (roomIds) => Effect.forEach(roomIds, check, { discard: true }))
    yield* periodicallyOnce("Looking for guests in rooms without guest access", "1 hour", sweep, { atOnce: true })
  })
)
