/**
 * Where our users start threads: not at an event that relates to another one by a relation type. A reply is no such event. Threads of
 * other servers are not refused.
 *
 * Source: "Validation of m.thread relationships" of the client-server specification.
 */
import { relationOf } from "@greenroom/protocol/client-server/Relation"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { BadRequest } from "@greenroom/protocol/MatrixError"
import type { EventProposal } from "@greenroom/room/RoomVersion"
import { EventStore } from "@greenroom/store/EventStore"
import { Effect } from "effect"
import type { RoomState } from "./RoomState.ts"

export const makeThreadRoots = Effect.gen(function* () {
  const events = yield* EventStore

  const mustNotRelate = Effect.fnUntraced(function* (room: RoomState, root: EventId) {
    const [stored] = yield* events.byIds([root])
    if (stored?.roomNid !== room.roomNid || relationOf(stored.event) === undefined) return
    return yield* new BadRequest({ error: `m.relates_to: no thread starts at ${root}, which relates to another event` })
  })

  /** Sends an event. Errors: M_UNKNOWN if it starts a thread at an event that relates to another one. */
  return <A, E>(
    room: RoomState,
    proposal: EventProposal,
    send: Effect.Effect<A, E>
  ): Effect.Effect<A, E | BadRequest> => {
    const relation = relationOf(proposal)
    return relation?.relType === "m.thread" ? Effect.andThen(mustNotRelate(room, relation.eventId), send) : send
  }
})
