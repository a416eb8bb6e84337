/**
 * Reports the devices that are connected to this node to the `Presence` actors of their users: when one connects, becomes active or
 * idle, or goes away, and again after nodes or the database were lost.
 */
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { logEpochs } from "@greenroom/store/LogEpoch"
import { rowsOf } from "@greenroom/store/LogKind"
import { PresenceStore } from "@greenroom/store/PresenceStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Clock, type Duration, Effect, Latch, Semaphore } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { latchOfChanges, Nodes } from "../../runtime/Nodes.ts"
import { keepRunningOnce } from "../../runtime/Singletons.ts"
import type { DeviceConnections } from "../DeviceConnections.ts"
import { EphemeralStream } from "../EphemeralStream.ts"
import { Presence } from "../PresenceProtocol.ts"

/** How many reports to Presence actors are under way at once. */
const concurrentReports = 64
/** How many users who were online before the server started are reported at once, and how long to wait after them. */
const formerAtOnce = 200
const formerInterval = "1 second"
/** How long to wait before a failed report to a Presence actor is repeated, in milliseconds. */
const retryAfter = 5_000

/** `grace`: how long a device counts as connected after a poll ended without another one. */
export const makeDeviceReports = Effect.fnUntraced(function* (devices: DeviceConnections, grace: Duration.Duration) {
  const actor = yield* Presence.client
  const nodes = yield* Nodes
  const stream = yield* EphemeralStream
  const { serverName } = yield* HomeServerConfig
  const store = yield* PresenceStore
  const log = yield* EventLog
  const somethingDue = Latch.makeUnsafe(false)
  const reporting = Semaphore.makeUnsafe(concurrentReports).withPermits(1)
  const scope = yield* Effect.scope

  const reportOf = (userId: UserId, now: number) => ({
    node: nodes.name,
    devices: devices.report(userId, now)
  })

  const report = Effect.fnUntraced(function* (userId: UserId) {
    const now = yield* Clock.currentTimeMillis
    const outlook = yield* actor(userId).Report(reportOf(userId, now))
    devices.reported(userId, outlook, now)
  })

  const reportOrRetry = (userId: UserId) =>
    Effect.catchCause(Effect.timeout(report(userId), "10 seconds"), (cause) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        devices.reportLater(userId, now + retryAfter)
        return Effect.logWarning("A report to a Presence actor failed, trying again", cause)
      })
    )

  // After a crash of the database all users are offline until their actors report again.
  yield* log.follow((slice) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      if (!rowsOf(slice.rows, logEpochs).some(({ row }) => row.fresh)) return
      devices.reportAll(now)
      somethingDue.openUnsafe()
    })
  )

  // An actor that moves to another node gets the reports of all nodes again.
  const movedActors = yield* latchOfChanges(nodes)
  const reportAll = Effect.map(Clock.currentTimeMillis, (now) => {
    devices.reportAll(now)
    somethingDue.openUnsafe()
  })
  yield* keepRunning("Reporting devices after nodes came or went", Effect.andThen(movedActors, reportAll))

  // Users whose only connection was to a lost node are reported by one of the other nodes.
  const goneNodes = yield* latchOfChanges(nodes)
  const reportOnline = Effect.map(Clock.currentTimeMillis, (now) => {
    for (const userId of stream.online()) if (serverNameOf(userId) === serverName) devices.reportLater(userId, now)
    somethingDue.openUnsafe()
  })
  yield* keepRunningOnce("Reporting users after nodes came or went", Effect.andThen(goneNodes, reportOnline))

  // Others still see users online who were so before the server started. Those who have not come back by now are offline.
  const reportFormer = Effect.gen(function* () {
    yield* Effect.sleep(grace)
    for (;;) {
      const former = yield* store.former(formerAtOnce)
      if (former.length === 0) return yield* Effect.never
      const now = yield* Clock.currentTimeMillis
      for (const userId of former) devices.reportLater(userId, now)
      somethingDue.openUnsafe()
      yield* Effect.sleep(formerInterval)
      yield* store.forgetFormer(former)
    }
  })
  yield* keepRunningOnce("Reporting users who were online before", reportFormer)

  // One fiber checks once a second, and at once when a user connects or becomes active.
  const reportDue = Effect.gen(function* () {
    yield* Effect.raceFirst(somethingDue.await, Effect.sleep("1 second"))
    somethingDue.closeUnsafe()
    for (const userId of devices.due(yield* Clock.currentTimeMillis)) {
      yield* Effect.forkIn(reporting(reportOrRetry(userId)), scope)
    }
  })
  yield* keepRunning("Reporting devices to Presence actors", reportDue)

  return {
    reportOf,
    reportOrRetry,
    /** Users whose report is due are not kept waiting until the next check. */
    reportDueNow: (): void => {
      somethingDue.openUnsafe()
    }
  }
})
