/**
 * Mails about unread notifications, as text and HTML, by the mail server of logins.
 */
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { Effect, Layer } from "effect"
import {
  NotificationMailer,
  NotificationMailFailed,
  type UnreadNotifications,
  type UnreadRoom
} from "../../user/push/NotificationMailer.ts"
import { LoginConfig } from "./LoginConfig.ts"
import { loginDefaults } from "./LoginOptions.ts"
import { Mailer } from "./Mailer.ts"

/** A link to a room, which a client elsewhere finds through the server. */
const linkOf = (roomId: RoomId, via: ServerName): string =>
  `https://matrix.to/#/${encodeURIComponent(roomId)}?via=${encodeURIComponent(via)}`

const asText = ({ count, lines, roomId, title }: UnreadRoom, via: ServerName): string =>
  [
    title,
    ...(count > lines.length ? [`  ${plural(count - lines.length, "earlier message")}`] : []),
    ...lines.map(({ sender, text }) => `  ${sender}: ${text}`),
    `  ${linkOf(roomId, via)}`,
    ""
  ].join("\n")

const asHtml = ({ count, lines, roomId, title }: UnreadRoom, via: ServerName): string =>
  [
    `<p style="margin-bottom:4px"><a href="${escapeHtml(linkOf(roomId, via))}" style="font-weight:600">${escapeHtml(title)}</a></p>`,
    ...(count > lines.length
      ? [`<p style="margin:4px 0;opacity:.75">${plural(count - lines.length, "earlier message")}</p>`]
      : []),
    ...lines.map(({ sender, text }) => `<p style="margin:4px 0"><b>${escapeHtml(sender)}</b> ${escapeHtml(text)}</p>`)
  ].join("\n")

const summaryOf = ({ count, moreRooms, rooms }: UnreadNotifications): string =>
  `${plural(count, "unread message")} in ${rooms.length === 1 ? rooms[0]!.title : `${rooms.length + moreRooms} rooms`}`

const messagesOf = ({ moreRooms, rooms }: UnreadNotifications, via: ServerName) => {
  const rest = moreRooms === 0 ? [] : [`And in ${plural(moreRooms, "other room")}.`]
  return {
    text: [...rooms.map((room) => asText(room, via)), ...rest].join("\n"),
    html: [...rooms.map((room) => asHtml(room, via)), ...rest.map((text) => `<p>${text}</p>`)].join("\n")
  }
}

const make = Effect.gen(function* () {
  const { mail } = yield* LoginConfig
  const { serverName } = yield* ServerSettings
  const mailer = yield* Mailer

  return NotificationMailer.of({
    isConfigured: mail !== undefined,
    delay: mail?.notificationDelay ?? loginDefaults.notificationDelay,
    deliver: ({ mailId, to, unread, unsubscribe, userId }) =>
      mailer
        .deliver(
          to,
          mailer.render("notifications", {
            server: serverName,
            summary: summaryOf(unread),
            messages: messagesOf(unread, serverName),
            user: userId,
            url: unsubscribe
          }),
          { mailId, unsubscribe }
        )
        .pipe(Effect.mapError(({ reason }) => new NotificationMailFailed({ reason })))
  })
})

export const layer = Layer.effect(NotificationMailer, make).pipe(Layer.provide(Mailer.layer))
