/**
 * The membership of a user when each event was sent. Clients use it to explain why they cannot decrypt an event.
 *
 * Source: "Room event format" of the client-server specification, `unsigned.membership`.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"

/** An event with its place in the log. */
interface Placed {
  readonly event: Event
  readonly position: StreamPosition
}

/** The user's membership after the events, and since when. */
interface LastMembership {
  readonly membership: string
  readonly changedAt: StreamPosition
}

/**
 * The membership of a user at each of some events, which come in order. The events themselves say what it was; undefined
 * before a change that is not among them.
 */
export const membershipsAt = (
  userId: UserId,
  { changedAt, membership }: LastMembership,
  entries: ReadonlyArray<Placed>
): ReadonlyArray<string | undefined> => {
  let current: string | undefined = membership
  let hasOwnChange = false
  const found: Array<string | undefined> = []
  for (const { event, position } of entries.toReversed()) {
    const isOwn = event.type === "m.room.member" && event.state_key === userId
    if (isOwn) current = String(event.content.membership)
    found.push(isOwn || hasOwnChange || comparePositions(position, changedAt) >= 0 ? current : undefined)
    if (!isOwn) continue
    hasOwnChange = true
    current = String(event.unsigned?.prev_content?.membership ?? "leave")
  }
  return found.reverse()
}
