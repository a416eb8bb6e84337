/**
 * Redactions by our users: the event is stripped in memory and in the commit of the redaction, and so are copies of its
 * content.
 *
 * Source: "Redactions" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { Forbidden, InvalidParam, NotFound } from "@greenroom/protocol/MatrixError"
import type { EventProposal } from "@greenroom/room/RoomVersion"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import { Effect } from "effect"
import type { Redact } from "../RoomProtocol.ts"
import type { RoomAppends } from "./RoomAppends.ts"
import type { RoomGraph } from "./RoomGraph.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

export const makeRoomRedactions = Effect.fnUntraced(function* (
  { loadForMember, roomId }: RoomWriter,
  graph: RoomGraph,
  { append }: RoomAppends
) {
  const events = yield* EventStore

  /** The state events that carry the target's content, as they replaced it. Queued ones are waited for first. */
  const replacementsOf = Effect.fnUntraced(function* (room: RoomState, target: StoredEvent) {
    const { event_id, state_key, type } = target.event
    if (state_key === undefined || room.lookup(type, state_key)?.event_id === event_id) return []
    yield* graph.flush(room)
    return yield* events.replacementsOf(target)
  })

  /** Users outside the room do not learn whether it has the event. */
  const redact = Effect.fnUntraced(function* (payload: (typeof Redact)["payloadSchema"]["Type"]) {
    const room = yield* loadForMember(payload.sender)
    const [stored] = yield* events.byIds([payload.target])
    if (stored !== undefined && stored.roomNid !== room.roomNid) {
      return yield* new InvalidParam({ error: `${payload.target} is an event of another room` })
    }
    const proposal: EventProposal = {
      room_id: roomId,
      type: "m.room.redaction",
      sender: payload.sender,
      redacts: payload.target,
      content: { ...payload.content, ...(payload.reason === undefined ? {} : { reason: payload.reason }) }
    }
    const levels = room.version.levels(room.lookup)
    const isModerator = levels.user(payload.sender) >= levels.of("redact")
    if (stored === undefined) {
      // Other servers may have the event. Here it is stripped when it arrives.
      if (isModerator && room.servers.size > 1) {
        return yield* append(room, proposal, payload.transaction, () => [], payload.at)
      }
      return yield* new NotFound({ error: `There is no event ${payload.target} in ${roomId}` })
    }
    const target = stored.event
    // Without its content it would exclude every server, this one too.
    if (target.type === "m.room.server_acl" && target.state_key === "") {
      return yield* new Forbidden({ error: "m.room.server_acl cannot be redacted: replace it" })
    }
    // The rules of rooms leave it to a server which of its users may redact events of each other.
    if (!isModerator && target.sender !== payload.sender) {
      return yield* new Forbidden({ error: "Redacting events of others requires the power level `redact`" })
    }
    const asEvent = { ...target, ...proposal, event_id: target.event_id } as Event
    const refusal = room.version.authoriseRedaction(asEvent, target, room.lookup)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
    const replacements = yield* replacementsOf(room, stored)
    const strip = (event: Event): ReadonlyArray<Event> => {
      const redacted = { ...room.version.redact(target), unsigned: { redacted_because: event.event_id } }
      const current = target.state_key === undefined ? undefined : room.lookup(target.type, target.state_key)
      const replacing = new Map(
        [...replacements, ...(current?.replaces_state === target.event_id ? [current] : [])].map((replacement) => [
          replacement.event_id,
          { ...replacement, unsigned: { ...replacement.unsigned, prev_content: redacted.content } }
        ])
      )
      const stripped = [redacted, ...replacing.values()]
      for (const entry of stripped) room.applyRedaction(entry)
      return stripped
    }
    return yield* append(room, proposal, payload.transaction, strip, payload.at)
  })

  return redact
})
