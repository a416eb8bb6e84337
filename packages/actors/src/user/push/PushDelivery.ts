/**
 * Sends pushers notifications, and changes of unread counts. A node serves the users whose shard it holds, and follows the
 * log for them: a pusher's position in the log is kept, so that a notification is sent also if the node ended before. Before
 * each notification the fence of the shard is checked: a node that was stopped while other nodes took its shards sends none.
 * A gateway that fails is tried again after 1, 2, 4 seconds and so on up to an hour; notifications older than a day are
 * dropped. Pushers that send mails are in `MailPushes`.
 *
 * Source: "Push notifications" of the client-server specification, "Push Gateway API".
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { EventLog, type LogSlice } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { PusherStore, pusherChanges, type StoredPusher } from "@greenroom/store/PusherStore"
import { receiptChanges } from "@greenroom/store/ReceiptChange"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type Fence, ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { keepRunning } from "@greenroom/store/Supervision"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Clock, Effect, Latch, Layer, Semaphore } from "effect"
import { EntityId, Sharding } from "effect/cluster"
import { makeIgnoredUsers } from "../../room/IgnoredUsers.ts"
import { makeDeadlines } from "../../runtime/Deadlines.ts"
import { latchOfChanges } from "../../runtime/Nodes.ts"
import { ShardFences } from "../../runtime/ShardFences.ts"
import { type MailProgress, makeMailPushes } from "./MailPushes.ts"
import { type Notification, Notifications } from "./Notifications.ts"
import { makeNotificationTexts } from "./NotificationTexts.ts"
import { type PushFailed, PushGateway } from "./PushGateway.ts"
import { makeUnreadCounts } from "./UnreadCounts.ts"

/** How many users are served at once, and how many notifications are read at once. */
const concurrentUsers = 64
const batch = 20

/** The longest wait after a failure, and for how long a notification is tried, in ms. */
const maxBackOff = 3_600_000
const giveUpAfter = 86_400_000

/** After how many transactions without a notification the position of a pusher is written. */
const noteAfter = 100_000

/** How long the shards of this node must be stable before their users are read. */
const settleTime = "1 second"

/** The retry delay of users whose notifications failed because of a fault of this server, in ms. */
const retryInterval = 5_000

/** A pusher, and the position up to which it was notified. */
type PusherProgress = MailProgress

interface Served {
  pushers: ReadonlyArray<PusherProgress>
  /** Under which the node serves the user. */
  fence: Fence | undefined
  readonly rooms: Set<RoomId>
  /** The unread count that the pushers know; undefined if that is unknown. */
  badge: number | undefined
  /** Whether the user may have read something. */
  hasRead: boolean
  failures: number
  /** When to try again, by the monotonic clock. */
  retryAt: number
  /** Ends the wait for the next attempt, or the next mail. */
  stopWaiting: () => void
}

const unserved = {
  pushers: [],
  fence: undefined,
  badge: undefined,
  hasRead: false,
  failures: 0,
  retryAt: 0,
  stopWaiting: () => undefined
}

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
 * A count of zero is sent too, although the specification would rather leave it out: push gateways take a missing count for an unknown one, and
 * the badge of the app would stay.
 */
const countsOf = (unread: number): JsonObject => ({ unread })

const urlOf = ({ description }: StoredPusher): string => String((description.data as JsonObject).url)

const hasIdsOnly = ({ description }: StoredPusher): boolean =>
  (description.data as JsonObject).format === "event_id_only"

const make = Effect.gen(function* () {
  const store = yield* PusherStore
  const notifications = yield* Notifications
  const gateway = yield* PushGateway
  const rooms = yield* RoomStore
  const textsOf = yield* makeNotificationTexts
  const mails = yield* makeMailPushes
  const memberships = yield* SyncStore
  const log = yield* EventLog
  const unread = yield* makeUnreadCounts
  const ignoredUsers = yield* makeIgnoredUsers
  const sharding = yield* Sharding.Sharding
  const scope = yield* Effect.scope
  const addDeadline = yield* makeDeadlines
  const withPermit = Semaphore.makeUnsafe(concurrentUsers).withPermits(1)

  const served = new Map<UserId, Served>()
  const usersIn = new Map<RoomId, Set<UserId>>()
  const due = new Set<UserId>()
  const working = new Set<UserId>()
  const somethingDue = Latch.makeUnsafe(false)

  const fences = yield* ShardFenceStore
  const fencing = yield* ShardFences

  const shardOf = (userId: UserId) => sharding.getShardId(EntityId.make(userId), "default")
  const isOurs = (userId: UserId): boolean => sharding.hasShardId(shardOf(userId))
  /** Also if the node has not shown for a while that it lives: it holds its shards until another node takes them. */
  const mayBeOurs = (userId: UserId): boolean => fencing.current(shardOf(userId)) !== undefined || isOurs(userId)

  const markDue = (userId: UserId) => {
    due.add(userId)
    somethingDue.openUnsafe()
  }

  // Users served by this node

  const enter = (userId: UserId, { rooms }: Served, roomId: RoomId) => {
    rooms.add(roomId)
    usersIn.set(roomId, (usersIn.get(roomId) ?? new Set()).add(userId))
  }

  const quit = (userId: UserId, { rooms }: Served, roomId: RoomId) => {
    rooms.delete(roomId)
    const users = usersIn.get(roomId)
    users?.delete(userId)
    if (users?.size === 0) usersIn.delete(roomId)
  }

  const stopServing = (userId: UserId) => {
    const user = served.get(userId)
    if (user === undefined) return
    user.stopWaiting()
    for (const roomId of [...user.rooms]) quit(userId, user, roomId)
    served.delete(userId)
  }

  /** A mail that is due stays due where the user changes their pushers. */
  const progressOf = (pusher: StoredPusher, { pushers }: Served): PusherProgress => ({
    pusher,
    seen: pusher.seen,
    failingSince: pusher.failingSince,
    lastMail: pusher.lastMail,
    mailAt: pushers.find((progress) => progress.pusher.pusherId === pusher.pusherId)?.mailAt
  })

  /** Reads the pushers of users again, or all pushers. */
  const refresh = Effect.fnUntraced(function* (userIds?: ReadonlyArray<UserId>) {
    const listed = (yield* store.list(userIds)).filter(({ userId }) => mayBeOurs(userId))
    const found = Map.groupBy(listed, ({ userId }) => userId)
    for (const userId of userIds ?? [...served.keys()]) if (!found.has(userId)) stopServing(userId)
    const fresh = [...found.keys()].filter((userId) => !served.has(userId))
    for (const userId of fresh) {
      served.set(userId, { ...unserved, rooms: new Set() })
    }
    for (const [userId, pushers] of found) {
      const user = served.get(userId)
      if (user === undefined) continue
      user.pushers = pushers.map((pusher) => progressOf(pusher, user))
      user.fence = fencing.current(shardOf(userId))
      user.retryAt = 0
    }
    const roomsOf = yield* rooms.joinedRoomsOfAll(fresh)
    for (const userId of fresh) {
      const user = served.get(userId)
      if (user !== undefined) for (const roomId of roomsOf.get(userId) ?? []) enter(userId, user, roomId)
    }
    for (const userId of found.keys()) markDue(userId)
  })

  const shardsMoved = yield* latchOfChanges(fencing)
  const refreshMoved = Effect.andThen(refresh(), Effect.andThen(shardsMoved, Effect.sleep(settleTime)))

  // Following the log

  const follow = (slice: LogSlice) =>
    Effect.suspend(() => {
      const changed = new Set(rowsOf(slice.rows, pusherChanges).map(({ row }) => row.userId))
      for (const { membership, roomId, userId } of slice.memberships) {
        const user = served.get(userId)
        if (user === undefined) continue
        if (membership === "join") enter(userId, user, roomId)
        else quit(userId, user, roomId)
        if (membership === "invite") markDue(userId)
      }
      for (const { event } of slice.events) for (const userId of usersIn.get(event.room_id) ?? []) markDue(userId)
      for (const { row } of rowsOf(slice.rows, receiptChanges)) {
        const user = served.get(row.userId)
        if (user === undefined) continue
        user.hasRead = true
        markDue(row.userId)
      }
      // The log waits for its consumers: long work runs beside it.
      return changed.size === 0 ? Effect.void : Effect.asVoid(Effect.forkIn(refresh([...changed]), scope))
    })

  // Sending

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

  const note = (progress: PusherProgress, seen: StreamPosition, failingSince?: number) => {
    progress.seen = seen
    progress.failingSince = failingSince
    return store.noteProgress([progress.pusher.pusherId], seen, failingSince)
  }

  /** Sends the notifications after the position of a pusher. Returns the unread count that was sent; undefined if there were none. */
  const catchUp = Effect.fnUntraced(function* (
    progress: PusherProgress,
    upTo: StreamPosition,
    fence: Fence | undefined
  ) {
    const { pusher } = progress
    let badgeSent: number | undefined
    while (comparePositions(progress.seen, upTo) < 0) {
      const found = yield* notifications.after(pusher.userId, progress.seen, upTo, batch)
      const badge = found.length === 0 ? 0 : yield* unreadCount(pusher.userId, upTo)
      for (const notification of found) {
        if (!notification.read && !notification.ignored) {
          yield* fences.check(fence)
          yield* notify(pusher, notification, badge)
          badgeSent = badge
        }
        yield* note(progress, notification.position)
      }
      if (found.length === batch) continue
      // If nothing was sent, reading it again after a restart costs less than writing now.
      if (upTo.xid - progress.pusher.seen.xid > noteAfter) yield* note(progress, upTo)
      else progress.seen = upTo
    }
    return badgeSent
  })

  /** Notifications that could not be sent for so long are dropped. */
  const skipExpired = (progress: PusherProgress, upTo: StreamPosition) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      progress.failingSince !== undefined && now - progress.failingSince > giveUpAfter
        ? note(progress, upTo, now)
        : Effect.void
    )

  /** Tells the unread count where the user has read something. */
  const notifyBadge = Effect.fnUntraced(function* (
    userId: UserId,
    user: Served,
    upTo: StreamPosition,
    hasRead: boolean
  ) {
    if (!hasRead || !user.pushers.some(({ pusher }) => pusher.kind === "http")) return
    const badge = yield* unreadCount(userId, upTo)
    if (user.badge === badge) return
    yield* fences.check(user.fence)
    for (const { pusher } of user.pushers) {
      if (pusher.kind === "http") yield* send(pusher, { counts: countsOf(badge), devices: [deviceOf(pusher)] })
    }
    user.badge = badge
  })

  /** What the user reads from here on is served next time. */
  const serve = (userId: UserId, user: Served) =>
    Effect.suspend(() => {
      const { hasRead } = user
      user.hasRead = false
      return Effect.onError(serveRead(userId, user, hasRead), () =>
        Effect.sync(() => {
          user.hasRead ||= hasRead
        })
      )
    })

  const serveRead = Effect.fnUntraced(function* (userId: UserId, user: Served, hasRead: boolean) {
    const upTo = yield* log.currentPosition
    const failed: Array<string> = []
    const noteFailure =
      (progress?: PusherProgress) =>
      ({ reason }: PushFailed) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          failed.push(reason)
          return progress === undefined
            ? Effect.undefined
            : Effect.as(note(progress, progress.seen, progress.failingSince ?? now), undefined)
        })
    for (const progress of user.pushers) {
      yield* skipExpired(progress, upTo)
      if (progress.pusher.kind === "email") {
        yield* mails.advance(progress, upTo, user.fence, hasRead)
        continue
      }
      user.badge =
        (yield* Effect.catchTag(catchUp(progress, upTo, user.fence), "PushFailed", noteFailure(progress))) ?? user.badge
    }
    yield* Effect.catchTag(notifyBadge(userId, user, upTo, hasRead), "PushFailed", noteFailure())
    if (failed.length === 0) user.failures = 0
    else {
      user.failures++
      user.hasRead ||= hasRead
      user.retryAt = (yield* monotonicMillis) + Math.min(maxBackOff, 1_000 * 2 ** (user.failures - 1))
      yield* Effect.logDebug(`A push gateway of ${userId} ${failed[0]}`)
    }
  })

  const work = Effect.fnUntraced(function* (userId: UserId) {
    const user = served.get(userId)
    if (user === undefined) return
    if (!isOurs(userId)) {
      user.failures++
      user.retryAt = (yield* monotonicMillis) + retryInterval
      return
    }
    yield* serve(userId, user).pipe(
      Effect.catchTag("StaleFence", ({ fence }) => Effect.map(fencing.refused(fence), () => stopServing(userId))),
      Effect.catchCause((cause) =>
        Effect.flatMap(monotonicMillis, (now) => {
          user.failures++
          user.retryAt = now + retryInterval
          return Effect.logError(`Notifications of ${userId} could not be sent, trying again`, cause)
        })
      )
    )
  })

  /** A failed user is tried again when the time has come, and a mail is sent when it is due. */
  const waitForNext = (userId: UserId, user: Served) => {
    user.stopWaiting()
    const retryAt = user.failures > 0 ? user.retryAt : Number.POSITIVE_INFINITY
    const next = user.pushers.reduce((least, { mailAt = least }) => Math.min(least, mailAt), retryAt)
    user.stopWaiting = next === Number.POSITIVE_INFINITY ? () => undefined : addDeadline(next, () => markDue(userId))
  }

  const serveDue = Effect.gen(function* () {
    yield* somethingDue.await
    somethingDue.closeUnsafe()
    const now = yield* monotonicMillis
    for (const userId of [...due]) {
      const user = served.get(userId)
      if (user === undefined) due.delete(userId)
      if (user === undefined || working.has(userId) || user.retryAt > now) continue
      due.delete(userId)
      working.add(userId)
      const done = Effect.sync(() => {
        working.delete(userId)
        if (served.get(userId) === user) waitForNext(userId, user)
        if (due.has(userId)) somethingDue.openUnsafe()
      })
      yield* Effect.forkIn(withPermit(Effect.ensuring(work(userId), done)), scope)
    }
  })

  yield* log.follow(follow)
  yield* keepRunning("Sending notifications to pushers", serveDue)
  yield* keepRunning("Looking for pushers of this node", refreshMoved)
})

export const layer = Layer.effectDiscard(make)
