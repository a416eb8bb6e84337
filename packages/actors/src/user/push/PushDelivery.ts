/**
 * Sends pushers notifications, and changes of unread counts. A node serves the users whose shard it holds, and follows the
 * log for them: a pusher's position in the log is kept, so that a notification is sent also if the node ended before. Before
 * each notification the fence of the shard is checked: a node that was stopped while other nodes took its shards sends none.
 * A gateway that fails is tried again after 1, 2, 4 seconds and so on up to an hour; notifications older than a day are
 * dropped. Each pusher is served by itself, so that a gateway that fails or is slow holds up no other.
 *
 * `PushedUsers` has the users, `HttpPushes` the requests to push gateways, `MailPushes` the mails.
 *
 * Source: "Push notifications" of the client-server specification, "Push Gateway API".
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { doublingWait } from "@greenroom/store/Backoff"
import { EventLog } from "@greenroom/store/EventLog"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import type { StoredPusher } from "@greenroom/store/PusherStore"
import type { Fence } from "@greenroom/store/ShardFenceStore"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Latch, Layer, PartitionedSemaphore } from "effect"
import { makeDeadlines } from "../../runtime/Deadlines.ts"
import { ShardFences } from "../../runtime/ShardFences.ts"
import { makeHttpPushes } from "./HttpPushes.ts"
import { makeMailPushes } from "./MailPushes.ts"
import { makePushedUsers } from "./PushedUsers.ts"
import { makePusherProgress, type PusherProgress } from "./PusherProgress.ts"
import type { PushFailed } from "./PushGateway.ts"

/**
 * How many pushers are served at once. Users name the push gateways: those that failed or took long, and the mail server, which may be
 * slow for all, have places of their own, and users get places in turn.
 */
const concurrency = { prompt: 64, slow: 16, mail: 8 }

/** An attempt that takes longer than this is slow, in ms. */
const promptTime = 2_000

/** The longest wait after a failure of a push gateway, in ms. */
const maxBackOff = 3_600_000

/** The retry delay of pushers whose notifications failed because of a fault of this server, in ms. */
const retryInterval = 5_000

const placesFor = (permits: number) => PartitionedSemaphore.makeUnsafe<UserId>({ permits })

const make = Effect.gen(function* () {
  const gateways = yield* makeHttpPushes
  const mails = yield* makeMailPushes
  const { noteFailure, skipExpired } = yield* makePusherProgress
  const log = yield* EventLog
  const fencing = yield* ShardFences
  const scope = yield* Effect.scope
  const addDeadline = yield* makeDeadlines
  const places = {
    prompt: placesFor(concurrency.prompt),
    slow: placesFor(concurrency.slow),
    mail: placesFor(concurrency.mail)
  }
  const placesOf = ({ isSlow, pusher }: PusherProgress) =>
    pusher.kind === "email" ? places.mail : isSlow ? places.slow : places.prompt

  const due = new Set<UserId>()
  /** The pushers that are served, and whether they must be served again. */
  const working = new Map<StoredPusher["pusherId"], boolean>()
  const somethingDue = Latch.makeUnsafe(false)
  const markDue = (userId: UserId) => {
    due.add(userId)
    somethingDue.openUnsafe()
  }
  const users = yield* makePushedUsers(markDue)

  const retryAfter = (progress: PusherProgress, wait: number) =>
    Effect.map(monotonicMillis, (now) => {
      progress.failures++
      progress.retryAt = now + wait
    })

  const failed = (progress: PusherProgress, { reason }: PushFailed) =>
    noteFailure(progress).pipe(
      Effect.andThen(retryAfter(progress, doublingWait(progress.failures + 1, 1_000, maxBackOff))),
      Effect.andThen(Effect.logDebug(`A push gateway of ${progress.pusher.userId} ${reason}`)),
      Effect.as(false)
    )

  /** False if the push gateway failed. */
  const push = Effect.fnUntraced(function* (
    progress: PusherProgress,
    upTo: StreamPosition,
    fence: Fence | undefined,
    hasRead: boolean
  ) {
    const start = yield* monotonicMillis
    const sent = yield* gateways.catchUp(progress, upTo, fence).pipe(
      Effect.andThen(hasRead ? gateways.notifyBadge(progress, upTo, fence) : Effect.void),
      Effect.as(true),
      Effect.catchTag("PushFailed", (failure) => failed(progress, failure))
    )
    if (sent) progress.failures = 0
    progress.isSlow = !sent || (yield* monotonicMillis) - start > promptTime
    return sent
  })

  /** What the user reads from here on is served next time. */
  const serve = Effect.fnUntraced(function* (progress: PusherProgress, fence: Fence | undefined) {
    const upTo = yield* log.currentPosition
    const { hasRead } = progress
    progress.hasRead = false
    const keepRead = Effect.sync(() => {
      progress.hasRead ||= hasRead
    })
    const serving = Effect.gen(function* () {
      yield* skipExpired(progress, upTo)
      if (progress.pusher.kind === "email") return yield* mails.advance(progress, upTo, fence, hasRead)
      if (!(yield* push(progress, upTo, fence, hasRead))) yield* keepRead
    })
    yield* Effect.onError(serving, () => keepRead)
  })

  const work = Effect.fnUntraced(function* (progress: PusherProgress) {
    const { userId } = progress.pusher
    const user = users.get(userId)
    if (user === undefined) return
    if (!users.isOurs(userId)) return yield* retryAfter(progress, retryInterval)
    yield* serve(progress, user.fence).pipe(
      Effect.catchTag("StaleFence", ({ fence }) => Effect.map(fencing.refused(fence), () => users.stopServing(userId))),
      Effect.catchCause((cause) =>
        Effect.andThen(
          retryAfter(progress, retryInterval),
          Effect.logError(`Notifications of ${userId} could not be sent, trying again`, cause)
        )
      )
    )
  })

  /** A pusher that failed is tried again when the time has come, and a mail is sent when it is due. */
  const waitForNext = (progress: PusherProgress) => {
    progress.stopWaiting()
    const { failures, mailAt = Number.POSITIVE_INFINITY, pusher, retryAt } = progress
    const next = Math.min(mailAt, failures > 0 ? retryAt : Number.POSITIVE_INFINITY)
    progress.stopWaiting =
      next === Number.POSITIVE_INFINITY ? () => undefined : addDeadline(next, () => markDue(pusher.userId))
  }

  const start = (progress: PusherProgress) => {
    const { pusherId, userId } = progress.pusher
    working.set(pusherId, false)
    const done = Effect.sync(() => {
      const isDueAgain = working.get(pusherId) === true
      working.delete(pusherId)
      if (users.get(userId)?.pushers.includes(progress)) waitForNext(progress)
      if (isDueAgain) markDue(userId)
    })
    return Effect.forkIn(placesOf(progress).withPermit(userId)(Effect.ensuring(work(progress), done)), scope)
  }

  const serveDue = Effect.gen(function* () {
    yield* somethingDue.await
    somethingDue.closeUnsafe()
    const now = yield* monotonicMillis
    const dueUsers = [...due]
    due.clear()
    for (const userId of dueUsers) {
      for (const progress of users.get(userId)?.pushers ?? []) {
        const { pusherId } = progress.pusher
        if (working.has(pusherId)) working.set(pusherId, true)
        else if (progress.retryAt <= now) yield* start(progress)
      }
    }
  })

  yield* keepRunning("Sending notifications to pushers", serveDue)
})

export const layer = Layer.effectDiscard(make)
