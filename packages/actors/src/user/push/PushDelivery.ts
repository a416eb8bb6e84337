/**
 * Sends pushers notifications, and changes of unread counts. A node serves the users whose shard it holds, and follows the
 * log for them: a pusher's position in the log is kept, so that a notification is sent also if the node ended before. Before
 * each notification the fence of the shard is checked: a node that was stopped while other nodes took its shards sends none.
 * A gateway that fails is tried again after 1, 2, 4 seconds and so on up to an hour; notifications older than a day are
 * dropped. `PushedUsers` has the users, `HttpPushes` the requests to push gateways, `MailPushes` the mails.
 *
 * Source: "Push notifications" of the client-server specification, "Push Gateway API".
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { doublingWait } from "@greenroom/store/Backoff"
import { EventLog } from "@greenroom/store/EventLog"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Latch, Layer, Semaphore } from "effect"
import { makeDeadlines } from "../../runtime/Deadlines.ts"
import { ShardFences } from "../../runtime/ShardFences.ts"
import { makeHttpPushes } from "./HttpPushes.ts"
import { makeMailPushes } from "./MailPushes.ts"
import { makePushedUsers, type PushedUser } from "./PushedUsers.ts"
import { makePusherProgress } from "./PusherProgress.ts"
import type { PushFailed } from "./PushGateway.ts"

/** How many users are served at once. */
const concurrentUsers = 64

/** The longest wait after a failure of a push gateway, in ms. */
const maxBackOff = 3_600_000

/** The retry delay of users whose notifications failed because of a fault of this server, in ms. */
const retryInterval = 5_000

const make = Effect.gen(function* () {
  const gateways = yield* makeHttpPushes
  const mails = yield* makeMailPushes
  const { noteFailure, skipExpired } = yield* makePusherProgress
  const log = yield* EventLog
  const fencing = yield* ShardFences
  const scope = yield* Effect.scope
  const addDeadline = yield* makeDeadlines
  const withPermit = Semaphore.makeUnsafe(concurrentUsers).withPermits(1)

  const due = new Set<UserId>()
  const working = new Set<UserId>()
  const somethingDue = Latch.makeUnsafe(false)
  const markDue = (userId: UserId) => {
    due.add(userId)
    somethingDue.openUnsafe()
  }
  const users = yield* makePushedUsers(markDue)

  /** What the user reads from here on is served next time. */
  const serve = (userId: UserId, user: PushedUser) =>
    Effect.suspend(() => {
      const { hasRead } = user
      user.hasRead = false
      return Effect.onError(serveRead(userId, user, hasRead), () =>
        Effect.sync(() => {
          user.hasRead ||= hasRead
        })
      )
    })

  const serveRead = Effect.fnUntraced(function* (userId: UserId, user: PushedUser, hasRead: boolean) {
    const upTo = yield* log.currentPosition
    const failed: Array<string> = []
    const noteReason = ({ reason }: PushFailed) =>
      Effect.sync(() => {
        failed.push(reason)
        return undefined
      })
    for (const progress of user.pushers) {
      yield* skipExpired(progress, upTo)
      if (progress.pusher.kind === "email") {
        yield* mails.advance(progress, upTo, user.fence, hasRead)
        continue
      }
      const sent = gateways
        .catchUp(progress, upTo, user.fence)
        .pipe(Effect.catchTag("PushFailed", (failure) => Effect.andThen(noteFailure(progress), noteReason(failure))))
      user.badge = (yield* sent) ?? user.badge
    }
    yield* Effect.catchTag(gateways.notifyBadge(userId, user, upTo, hasRead), "PushFailed", noteReason)
    if (failed.length === 0) user.failures = 0
    else {
      user.failures++
      user.hasRead ||= hasRead
      user.retryAt = (yield* monotonicMillis) + doublingWait(user.failures, 1_000, maxBackOff)
      yield* Effect.logDebug(`A push gateway of ${userId} ${failed[0]}`)
    }
  })

  const work = Effect.fnUntraced(function* (userId: UserId) {
    const user = users.get(userId)
    if (user === undefined) return
    if (!users.isOurs(userId)) {
      user.failures++
      user.retryAt = (yield* monotonicMillis) + retryInterval
      return
    }
    yield* serve(userId, user).pipe(
      Effect.catchTag("StaleFence", ({ fence }) => Effect.map(fencing.refused(fence), () => users.stopServing(userId))),
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
  const waitForNext = (userId: UserId, user: PushedUser) => {
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
      const user = users.get(userId)
      if (user === undefined) due.delete(userId)
      if (user === undefined || working.has(userId) || user.retryAt > now) continue
      due.delete(userId)
      working.add(userId)
      const done = Effect.sync(() => {
        working.delete(userId)
        if (users.get(userId) === user) waitForNext(userId, user)
        if (due.has(userId)) somethingDue.openUnsafe()
      })
      yield* Effect.forkIn(withPermit(Effect.ensuring(work(userId), done)), scope)
    }
  })

  yield* keepRunning("Sending notifications to pushers", serveDue)
})

export const layer = Layer.effectDiscard(make)
