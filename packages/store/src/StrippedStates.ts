/**
 * What users outside of a room see of it with an invitation or a knock: its stripped state at a position of the log.
 *
 * Source: "Stripped state" of the client-server specification.
 */
import { type StrippedEvent, toStrippedEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import { StateStore } from "./StateStore.ts"
import type { StreamPosition } from "./StreamToken.ts"
import { SyncStore } from "./SyncStore.ts"

/** The types of the events, all with an empty state key. */
export const strippedTypes = [
  "m.room.create",
  "m.room.name",
  "m.room.avatar",
  "m.room.topic",
  "m.room.join_rules",
  "m.room.canonical_alias",
  "m.room.encryption"
] as const

/** A room at a position, and the invitation or knock there, if it is known. */
interface StrippedRoom {
  readonly roomNid: number
  readonly at: StreamPosition
  readonly event: Event | undefined
}

/** Reads the stripped state of a room; of one in which this server takes no part, what came with the invitation or for the knock. */
export const makeStrippedStates = Effect.gen(function* () {
  const store = yield* SyncStore
  const states = yield* StateStore

  return Effect.fnUntraced(function* ({ at, event, roomNid }: StrippedRoom) {
    const ref = (yield* store.statesAt([{ roomNid, at }])).get(roomNid)
    const keys = [
      ...strippedTypes.map((type) => [type, ""] as const),
      ...(event === undefined ? [] : [["m.room.member", event.sender] as const])
    ]
    const entries = ref === undefined ? [] : yield* states.read([{ roomNid, ref }], { keys })
    if (entries.length > 0) return entries.map((entry) => toStrippedEvent(entry.event))
    return (event?.unsigned?.invite_room_state ?? []) as unknown as ReadonlyArray<StrippedEvent>
  })
})
