/**
 * The parts of a path: identifiers, event types, state keys, transaction IDs. Percent-encoded on the wire, any Unicode
 * inside, at most 255 bytes.
 */
import { Schema } from "effect"
import { isRoomAlias, isRoomId, type RoomAlias, type RoomId } from "../Identifiers.ts"
import { isStorable, isText, maxNameBytes } from "../Text.ts"

const shortText = (name: string, least: number) =>
  Schema.String.check(
    Schema.makeFilter(
      (value: string) => isText(value, least) || `Expected ${name}: at most 255 bytes of Unicode text`,
      {
        toJsonSchema: () => [{ minLength: least, maxLength: maxNameBytes }, true]
      }
    )
  )

/** Text of at most so many characters that can be stored: without U+0000, and no half of a surrogate pair. */
export const boundedText = (most: number) =>
  Schema.String.check(
    Schema.isMaxLength(most),
    Schema.makeFilter((value: string) => isStorable(value) || "Expected Unicode text without U+0000")
  )

/** An event type, such as `m.room.message`: 1 to 255 bytes. */
export const EventType = shortText("an event type", 1)

/** A state key: up to 255 bytes, usually empty. */
export const StateKey = shortText("a state key", 0)

/** The client's ID of a request, by which a repeat is recognised: 1 to 255 bytes. */
export const TransactionId = shortText("a transaction ID", 1)

/** The name of a profile field: 1 to 255 bytes. */
export const ProfileField = shortText("a profile field", 1)

/** `!opaque:server` or `#name:server`. */
export const RoomIdOrAlias = Schema.String.pipe(
  Schema.refine((value): value is RoomId | RoomAlias => isRoomId(value) || isRoomAlias(value), {
    message: "Expected a room ID or room alias, such as !opaque:example.org or #name:example.org",
    toJsonSchema: () => [{ pattern: "^[!#][^:]+:.+$", maxLength: maxNameBytes }, true]
  })
)
