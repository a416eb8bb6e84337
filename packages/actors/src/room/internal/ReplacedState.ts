/**
 * State events carry what they replaced. Clients show with it what changed: a name, or that an invitation was accepted.
 *
 * Source: "Room event fields" of the client-server specification, `unsigned`.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import type { RoomVersion } from "@greenroom/room/RoomVersion"

/**
 * The event with the content of the state event that it replaced. In the draft's version the PDU names that event; nothing
 * is added to one that names another, since a redaction would not find the copy.
 */
export const withReplaced = (version: RoomVersion, event: Event, replaced: Event | undefined): Event => {
  if (replaced === undefined || event.state_key === undefined) return event
  if (isDraft(version) && event.replaces_state !== replaced.event_id) return event
  return {
    ...event,
    replaces_state: replaced.event_id,
    unsigned: { ...event.unsigned, prev_content: replaced.content, prev_sender: replaced.sender }
  }
}
