/**
 * Sends mails about unread notifications. Provided by `account/login/NotificationMailerLive`.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Data, type Effect } from "effect"

/** The mail server did not take a mail. `reason` names no recipient. */
export class NotificationMailFailed extends Data.TaggedError("NotificationMailFailed")<{ readonly reason: string }> {
  override get message(): string {
    return this.reason
  }
}

/** A room as a mail shows it. All texts have one line. */
export interface UnreadRoom {
  readonly roomId: RoomId
  readonly title: string
  /** How many notifications are unread. */
  readonly count: number
  /** The newest of them. */
  readonly lines: ReadonlyArray<{ readonly sender: string; readonly text: string }>
}

/** The unread notifications of a user in one mail. */
export interface UnreadNotifications {
  readonly count: number
  /** At least one. */
  readonly rooms: ReadonlyArray<UnreadRoom>
  /** How many rooms are not shown. */
  readonly moreRooms: number
}

/** A mail about unread notifications. */
export interface NotificationMail {
  /** An address in canonical form. */
  readonly to: string
  readonly userId: UserId
  readonly unread: UnreadNotifications
  /** The same for every attempt to send one mail: a mail server may then recognise it by the Message-ID. */
  readonly mailId: string
  /** The URL at which one click ends such mails (RFC 8058). */
  readonly unsubscribe: string
}

/** Mails about unread notifications, provided by `account/login/NotificationMailerLive`. */
export class NotificationMailer extends Context.Service<
  NotificationMailer,
  {
    /** Whether there is a mail server. */
    readonly isConfigured: boolean
    /** The shortest delay between a notification and the mail about it, in ms. */
    readonly delay: number
    /** Succeeds when the mail server has taken the mail; does not retry. */
    readonly deliver: (mail: NotificationMail) => Effect.Effect<void, NotificationMailFailed>
  }
>()("greenroom/actors/NotificationMailer") {}
