/**
 * The state of a room that users outside it are shown: with an invitation, or in answer to a knock.
 *
 * Source: "Stripped state" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { StateLookup } from "@greenroom/room/RoomVersion"

const shownTypes = [
  "m.room.create",
  "m.room.name",
  "m.room.avatar",
  "m.room.topic",
  "m.room.join_rules",
  "m.room.canonical_alias",
  "m.room.encryption"
] as const

/** The events of the state that are shown, with the membership of the sender of an invitation. */
export const shownState = (state: StateLookup, sender?: UserId): ReadonlyArray<Event> => [
  ...shownTypes.flatMap((type) => state(type, "") ?? []),
  ...(sender === undefined ? [] : [state("m.room.member", sender)]).filter((event) => event !== undefined)
]

/** An event as those see it who are not in the room. */
export const stripped = ({ content, sender, state_key = "", type }: Event): JsonObject => ({
  type,
  state_key,
  sender,
  content
})
