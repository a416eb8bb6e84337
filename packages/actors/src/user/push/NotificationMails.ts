/**
 * The text of a mail about unread notifications: by room, with the newest messages of each. Messages of encrypted rooms are
 * not quoted.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { UnreadNotifications, UnreadRoom } from "./NotificationMailer.ts"
import type { Notification } from "./Notifications.ts"
import { makeNotificationTexts, type NotificationTexts } from "./NotificationTexts.ts"

/** How many rooms and messages of each a mail shows, and how long a quoted message may be. */
const maxRooms = 10
const maxMessages = 5
const maxQuoted = 300

const oneLine = (text: string): string => text.replaceAll(/\s+/g, " ").trim()

const shorten = (text: string, length: number): string => {
  const characters = Array.from(oneLine(text))
  return characters.length <= length ? characters.join("") : `${characters.slice(0, length).join("")}…`
}

const quote = ({ event: { content, type } }: Notification, { isEncrypted }: NotificationTexts): string => {
  if (isEncrypted || type === "m.room.encrypted") return "an encrypted message"
  if (content.msgtype === "m.image") return "an image"
  return typeof content.body === "string" ? shorten(content.body, maxQuoted) : "an event"
}

const isInvite = ({ event }: Notification, userId: UserId): boolean =>
  event.type === "m.room.member" && event.state_key === userId

export const makeNotificationMails = Effect.gen(function* () {
  const textsOf = yield* makeNotificationTexts

  const showRoom = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    notifications: ReadonlyArray<Notification>
  ) {
    let title = "A room"
    const lines: Array<{ sender: string; text: string }> = []
    for (const notification of notifications.slice(-maxMessages)) {
      const texts = yield* textsOf(notification)
      const sender = shorten(texts.senderName ?? notification.event.sender, 100)
      title = shorten(texts.roomName ?? texts.roomAlias ?? `A conversation with ${sender}`, 100)
      lines.push({ sender, text: isInvite(notification, userId) ? "invites you" : quote(notification, texts) })
    }
    return { roomId, title, count: notifications.length, lines } satisfies UnreadRoom
  })

  /** For unread notifications of a user, oldest first; at least one. */
  return Effect.fnUntraced(function* (
    userId: UserId,
    unread: ReadonlyArray<Notification>
  ): Effect.fn.Return<UnreadNotifications> {
    const byRoom = [...Map.groupBy(unread, ({ roomId }) => roomId)]
    const shown: Array<UnreadRoom> = []
    for (const [roomId, notifications] of byRoom.slice(0, maxRooms)) {
      shown.push(yield* showRoom(userId, roomId, notifications))
    }
    return { count: unread.length, rooms: shown, moreRooms: byRoom.length - shown.length }
  })
})
