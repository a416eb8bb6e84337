/**
 * Pushers that send mails. A mail lists all unread notifications, some time after the first of them;
 * the next waits as long, then twice as long and so on up to a day, until the user reads something.
 *
 * A pusher's position in the log is kept when the mail server has taken a mail: a server that ends between the two sends the
 * mail again with the same `Message-ID`.
 *
 * Used by `PushDelivery`. Source: "Push notifications" of the client-server specification, `kind` `email`.
 */
import { redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { PusherStore, type StoredPusher } from "@greenroom/store/PusherStore"
import type { Fence } from "@greenroom/store/ShardFenceStore"
import { ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Clock, Effect, Option } from "effect"
import { PublicUrl } from "../../runtime/PublicUrl.ts"
import { NotificationMailer, type NotificationMailFailed } from "./NotificationMailer.ts"
import { makeNotificationMails } from "./NotificationMails.ts"
import { type Notification, Notifications } from "./Notifications.ts"
import { makePusherProgress, type PusherProgress } from "./PusherProgress.ts"
import { makeUnsubscription, unsubscribePath } from "./Unsubscription.ts"

/** How many notifications one mail may list. */
const maxInMail = 100

/** The longest time between two mails, the first wait after the mail server refused one, and the longest, in ms. */
const maxInterval = 86_400_000
const firstRetry = 60_000
const maxRetry = 3_600_000

export const makeMailPushes = Effect.gen(function* () {
  const store = yield* PusherStore
  const fences = yield* ShardFenceStore
  const identities = yield* UserIdentityStore
  const notifications = yield* Notifications
  const { delay, deliver } = yield* NotificationMailer
  const publicUrl = yield* PublicUrl
  const compose = yield* makeNotificationMails
  const { tokenOf } = yield* makeUnsubscription
  const progresses = yield* makePusherProgress

  /** The unread notifications after the position of a pusher. Moves the position over those that were read. */
  const unreadOf = Effect.fnUntraced(function* (progress: PusherProgress, upTo: StreamPosition) {
    while (comparePositions(progress.seen, upTo) < 0) {
      const found = yield* notifications.after(progress.pusher.userId, progress.seen, upTo, maxInMail)
      const end = found.length === maxInMail ? found.at(-1)!.position : upTo
      const unread = found.filter(({ ignored, read }) => !read && !ignored)
      if (unread.length > 0) return { unread, end }
      progress.seen = end
    }
    return undefined
  })

  const isOwnAddress = ({ pushkey, userId }: StoredPusher) =>
    Effect.map(identities.userOfAddress({ medium: "email", address: pushkey }), Option.contains(userId))

  const send = Effect.fnUntraced(function* (
    { pusher }: PusherProgress,
    unread: ReadonlyArray<Notification>,
    fence: Fence | undefined
  ) {
    const { pusherId, pushkey, userId } = pusher
    const { nid, xid } = unread[0]!.position
    const summary = yield* compose(userId, unread)
    const unsubscribe = `${publicUrl.get()}${unsubscribePath}?${new URLSearchParams({ token: tokenOf(pusherId) })}`
    yield* fences.check(fence)
    yield* deliver({
      to: pushkey,
      userId,
      unread: summary,
      mailId: `notifications.${pusherId}.${xid}.${nid}`,
      unsubscribe
    })
  })

  const noteSent = Effect.fnUntraced(function* (progress: PusherProgress, end: StreamPosition) {
    const at = yield* Clock.currentTimeMillis
    const { lastMail } = progress
    const isLongAgo = lastMail === undefined || at - lastMail.at > maxInterval
    const interval = isLongAgo ? delay : Math.min(maxInterval, Math.max(delay, lastMail.interval * 2))
    Object.assign(progress, { seen: end, lastMail: { at, interval }, mailAt: undefined, failingSince: undefined })
    yield* store.noteMail(progress.pusher.pusherId, end, { at, interval })
  })

  const noteFailure = Effect.fnUntraced(function* (progress: PusherProgress, { reason }: NotificationMailFailed) {
    yield* progresses.noteFailure(progress)
    const failing = (yield* Clock.currentTimeMillis) - progress.failingSince!
    progress.mailAt = (yield* monotonicMillis) + Math.min(maxRetry, Math.max(firstRetry, failing))
    const address = redactAddress({ medium: "email", address: progress.pusher.pushkey })
    yield* Effect.logWarning(`A mail about notifications to ${address} could not be sent, trying again: ${reason}`)
  })

  /** How long a first unread notification waits, in ms. */
  const waitOf = ({ lastMail }: PusherProgress) =>
    Effect.map(Clock.currentTimeMillis, (now) =>
      // If the clock was set back, the last mail was not sent later than now.
      lastMail === undefined ? delay : Math.max(delay, Math.min(lastMail.at, now) + lastMail.interval - now)
    )

  /** Sends the due mail, or stores when one will be due. `hasRead` says that the user has read something since the last mail. */
  const advance = Effect.fnUntraced(function* (
    progress: PusherProgress,
    upTo: StreamPosition,
    fence: Fence | undefined,
    hasRead: boolean
  ) {
    if (hasRead) progress.lastMail = undefined
    const now = yield* monotonicMillis
    if (progress.mailAt !== undefined && progress.mailAt > now) return
    const found = yield* unreadOf(progress, upTo)
    if (found === undefined) {
      progress.mailAt = undefined
      return
    }
    if (progress.mailAt === undefined) {
      progress.mailAt = now + (yield* waitOf(progress))
      return
    }
    const { appId, pushkey, userId } = progress.pusher
    if (!(yield* isOwnAddress(progress.pusher))) return yield* store.remove(userId, appId, pushkey)
    yield* send(progress, found.unread, fence).pipe(
      Effect.andThen(noteSent(progress, found.end)),
      Effect.catchTag("NotificationMailFailed", (failed) => noteFailure(progress, failed))
    )
  })

  return { advance }
})
