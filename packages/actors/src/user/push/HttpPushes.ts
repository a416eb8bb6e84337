/**
 * Pushers that call a push gateway: one request for each notification, and one for a changed unread count.
 *
 * Used by `PushDelivery`. Source: "Push Gateway API".
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { PusherStore, type StoredPusher } from "@greenroom/store/PusherStore"
import { type Fence, ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { makeIgnoredUsers } from "../../room/IgnoredUsers.ts"
import { type Notification, Notifications } from "./Notifications.ts"
import { makeNotificationTexts } from "./NotificationTexts.ts"
import { makePusherProgress, type PusherProgress } from "./PusherProgress.ts"
import { PushGateway } from "./PushGateway.ts"
import { makeUnreadCounts } from "./UnreadCounts.ts"

/** How many notifications are read at once. */
const batch = 20

/** After how many transactions without a notification the position of a pusher is written. */
const noteAfter = 100_000

const tweaksOf = ({ actions }: Notification): JsonObject =>
  Object.fromEntries(
    actions.flatMap((action) =>
      isJsonObject(action) && typeof action.set_tweak === "string" ? [[action.set_tweak, action.value ?? true]] : []
    )
  )

const isUrgent = ({ event: { type }, highlight }: Notification, tweaks: JsonObject): boolean =>
  highlight || tweaks.sound !== undefined || type === "m.room.message" || type === "m.room.encrypted"

const deviceOf = ({ appId, description, pushkey, setAt }: StoredPusher, tweaks?: JsonObject): JsonObject => {
  const { url: _, ...data } = (description.data ?? {}) as JsonObject
  return {
    app_id: appId,
    pushkey,
    pushkey_ts: Math.floor(setAt / 1_000),
    data,
    ...(tweaks === undefined ? {} : { tweaks })
  }
}

/**
 * A count of zero is sent too, although the specification recommends to leave it out: push gateways take a missing count for an
 * unknown one, and the badge of the app would stay.
 */
const countsOf = (unread: number): JsonObject => ({ unread })

const urlOf = ({ description }: StoredPusher): string => String((description.data as JsonObject).url)

const hasIdsOnly = ({ description }: StoredPusher): boolean =>
  (description.data as JsonObject).format === "event_id_only"

export const makeHttpPushes = Effect.gen(function* () {
  const store = yield* PusherStore
  const notifications = yield* Notifications
  const gateway = yield* PushGateway
  const textsOf = yield* makeNotificationTexts
  const memberships = yield* SyncStore
  const unread = yield* makeUnreadCounts
  const ignoredUsers = yield* makeIgnoredUsers
  const fences = yield* ShardFenceStore
  const { note } = yield* makePusherProgress

  /** How many events the user has not read, in all rooms. */
  const unreadCount = Effect.fnUntraced(function* (userId: UserId, upTo: StreamPosition) {
    const joined = (yield* memberships.memberships(userId, upTo)).filter(({ membership }) => membership === "join")
    const counts = yield* unread.count(
      userId,
      joined.map(({ changedAt, roomNid }) => ({ roomNid, joinedAt: changedAt })),
      upTo,
      yield* ignoredUsers.of(userId),
      false
    )
    return [...counts.values()].reduce(
      (sum, { unread_notifications: { notification_count } }) => sum + notification_count,
      0
    )
  })

  /** The details of an event that a push gateway gets beside the event ID. */
  const detailsOf = Effect.fnUntraced(function* (notification: Notification, userId: UserId) {
    const { event } = notification
    const { roomAlias, roomName, senderName } = yield* textsOf(notification)
    const details = {
      type: event.type,
      sender: event.sender,
      content: event.content,
      sender_display_name: senderName,
      // Older push gateways show nothing else of a room, and read the membership here.
      room_name: roomName ?? roomAlias,
      membership: event.type === "m.room.member" ? event.content.membership : undefined,
      room_alias: roomAlias,
      user_is_target: event.type === "m.room.member" && event.state_key === userId ? true : undefined
    }
    return Object.fromEntries(Object.entries(details).filter(([, value]) => value !== undefined)) as JsonObject
  })

  const send = Effect.fnUntraced(function* (pusher: StoredPusher, notification: JsonObject) {
    const rejected = yield* gateway.notify(urlOf(pusher), notification)
    if (rejected.includes(pusher.pushkey)) yield* store.remove(pusher.userId, pusher.appId, pusher.pushkey)
  })

  const notify = Effect.fnUntraced(function* (pusher: StoredPusher, notification: Notification, badge: number) {
    const { event, roomId } = notification
    const tweaks = tweaksOf(notification)
    yield* send(pusher, {
      // Older push gateways read the event ID as `id`, as Synapse sends it.
      ...(hasIdsOnly(pusher) ? {} : { ...(yield* detailsOf(notification, pusher.userId)), id: event.event_id }),
      event_id: event.event_id,
      room_id: roomId,
      prio: isUrgent(notification, tweaks) ? "high" : "low",
      counts: countsOf(badge),
      devices: [deviceOf(pusher, tweaks)]
    })
  })

  /**
   * Sends the notifications after the position of a pusher. Errors: PushFailed.
   */
  const catchUp = Effect.fnUntraced(function* (
    progress: PusherProgress,
    upTo: StreamPosition,
    fence: Fence | undefined
  ) {
    const { pusher } = progress
    while (comparePositions(progress.seen, upTo) < 0) {
      const found = yield* notifications.after(pusher.userId, progress.seen, upTo, batch)
      const badge = found.length === 0 ? 0 : yield* unreadCount(pusher.userId, upTo)
      for (const notification of found) {
        if (!notification.read && !notification.ignored) {
          yield* fences.check(fence)
          yield* notify(pusher, notification, badge)
          progress.badge = badge
        }
        yield* note(progress, notification.position)
      }
      if (found.length === batch) continue
      // If nothing was sent, reading it again after a restart costs less than writing now.
      if (upTo.xid - progress.pusher.seen.xid > noteAfter) yield* note(progress, upTo)
      else progress.seen = upTo
    }
  })

  /** Sends the unread count to a pusher whose user has read something, if it changed. Errors: PushFailed. */
  const notifyBadge = Effect.fnUntraced(function* (
    progress: PusherProgress,
    upTo: StreamPosition,
    fence: Fence | undefined
  ) {
    const { pusher } = progress
    const badge = yield* unreadCount(pusher.userId, upTo)
    if (progress.badge === badge) return
    yield* fences.check(fence)
    yield* send(pusher, { counts: countsOf(badge), devices: [deviceOf(pusher)] })
    progress.badge = badge
  })

  return { catchUp, notifyBadge }
})
