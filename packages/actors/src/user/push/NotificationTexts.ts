/**
 * The names that a notification shows beside the event: of the room and of the sender, by the current state.
 */
import { contentText } from "@greenroom/protocol/Event"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect } from "effect"
import type { Notification } from "./Notifications.ts"

/** The texts by which a notification names its room, sender and content. */
export interface NotificationTexts {
  readonly senderName: string | undefined
  readonly roomName: string | undefined
  readonly roomAlias: string | undefined
  readonly isEncrypted: boolean
}

export const makeNotificationTexts = Effect.gen(function* () {
  const states = yield* StateStore

  return Effect.fnUntraced(function* ({
    event,
    roomId
  }: Pick<Notification, "event" | "roomId">): Effect.fn.Return<NotificationTexts> {
    const keys = [
      ["m.room.name", ""] as const,
      ["m.room.canonical_alias", ""] as const,
      ["m.room.encryption", ""] as const,
      ["m.room.member", event.sender] as const
    ]
    const state = yield* states.readCurrent(roomId, { keys })
    const find = (type: string) => state.find((entry) => entry.event.type === type)?.event
    return {
      senderName: contentText(find("m.room.member"), "displayname"),
      roomName: contentText(find("m.room.name"), "name"),
      roomAlias: contentText(find("m.room.canonical_alias"), "alias"),
      isEncrypted: find("m.room.encryption") !== undefined
    }
  })
})
