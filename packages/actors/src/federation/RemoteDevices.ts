/**
 * The RemoteDevices actor: one per other home server, its key is the server name. It asks that server for the devices of its
 * users, for all nodes: each question is asked once at a time.
 *
 * A few users are asked for one by one, by `user/devices`, whose answer names the last update (`stream_id`). Many are asked
 * for together, by `keys/query`, whose answer does not: the next update of such a user costs one more question.
 *
 * Source: "Device Management" of the server-server specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { type RemoteDevices as DevicesOfUser, RemoteDeviceListStore } from "@greenroom/store/RemoteDeviceListStore"
import { Clock, Deferred, Effect, Result, Semaphore } from "effect"
import { Entity } from "effect/cluster"
import { sliced } from "../runtime/Slices.ts"
import { Destinations } from "./Destinations.ts"
import { DeviceResyncs } from "./DeviceResyncs.ts"
import { RemoteDevices } from "./RemoteDevicesProtocol.ts"
import type { RemoteError } from "./RemoteError.ts"
import { readQueriedUser, readUserDevices } from "./RemoteUserKeys.ts"
import { ServerServerClient } from "./ServerServerClient.ts"

// --- State ------------------------------------------------------------------------------------------------------------

/** Up to this many users are asked for one by one. */
const few = 4
/** How many users one question names at most. */
const maxUsersOfQuestion = 1_000
/** How many stale lists are resynced at once. */
const maxResynced = 100
/**
 * This many questions for a user within the window follow each other at once, later ones after an interval, in ms: an
 * update with a gap must not cost a whole list each time.
 */
const questionsAtOnce = 5
const questionWindow = 60_000
const resyncInterval = 10_000
/** How long lists wait whose requests this server gave up by a limit of its own, in ms. */
const ownLimitDelay = 10_000

/** The devices of a user as the server gave them. */
interface Answer extends DevicesOfUser {
  readonly streamId?: number
}

/** What is known of a user after a question; "given up" where this server gave it up by a limit of its own. */
type Outcome = readonly [UserId, Answer | "given up"]

// --- Behaviour --------------------------------------------------------------------------------------------------------

const behaviour = Effect.gen(function* () {
  const server = (yield* Entity.CurrentAddress).entityId as unknown as ServerName
  const store = yield* RemoteDeviceListStore
  const client = yield* ServerServerClient
  const destinations = yield* Destinations
  const resyncs = yield* DeviceResyncs
  const oneResync = Semaphore.makeUnsafe(1).withPermits(1)
  /** The users that the server is being asked for; true if it gave their devices. */
  const asked = new Map<UserId, Deferred.Deferred<boolean>>()

  /** How often each user was asked for since `windowBegan`. */
  const questions = new Map<UserId, number>()
  let windowBegan = 0

  /** When the server may be asked for a user again. */
  const retryAt = (userId: UserId, now: number): number => {
    if (Math.abs(now - windowBegan) > questionWindow) {
      questions.clear()
      windowBegan = now
    }
    const count = (questions.get(userId) ?? 0) + 1
    questions.set(userId, count)
    return count < questionsAtOnce ? now : now + resyncInterval
  }

  const withoutAnswer = (userIds: ReadonlyArray<UserId>, error: RemoteError): ReadonlyArray<Outcome> =>
    error._tag === "RemoteUnreachable" && error.isOwnLimit === true ? userIds.map((userId) => [userId, "given up"]) : []

  const askForMany = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>, isUrgent: boolean) {
    const wanted = Object.fromEntries(userIds.map((userId) => [userId, []]))
    const answer = yield* Effect.result(client.queryKeys(server, wanted, isUrgent))
    if (Result.isFailure(answer)) {
      yield* Effect.logDebug(`${server} does not return the devices`, answer.failure)
      return withoutAnswer(userIds, answer.failure)
    }
    return yield* sliced(function* () {
      const answers: Array<Outcome> = []
      for (const userId of userIds) answers.push([userId, yield* readQueriedUser(userId, answer.success)])
      return answers
    })
  })

  /** A server without this endpoint may answer the older one. */
  const askForOne = Effect.fnUntraced(function* (userId: UserId, isUrgent: boolean) {
    const answer = yield* Effect.result(client.userDevices(server, userId, isUrgent))
    if (Result.isFailure(answer)) {
      return answer.failure._tag === "RemoteUnreachable"
        ? withoutAnswer([userId], answer.failure)
        : yield* askForMany([userId], isUrgent)
    }
    const devices = yield* sliced(() => readUserDevices(userId, answer.success))
    const answers: ReadonlyArray<Outcome> = devices === undefined ? [] : [[userId, devices]]
    return answers
  })

  const askFor = (userIds: ReadonlyArray<UserId>, isUrgent: boolean): Effect.Effect<ReadonlyArray<Outcome>> =>
    userIds.length > few
      ? askForMany(userIds, isUrgent)
      : Effect.map(
          Effect.forEach(userIds, (userId) => askForOne(userId, isUrgent), { concurrency: few }),
          (answers) => answers.flat()
        )

  const fetch = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>, isUrgent: boolean) {
    const begun = yield* store.begin(userIds)
    const outcomes = yield* askFor(userIds, isUrgent)
    const answers = new Map<UserId, Answer>()
    const givenUp = new Set<UserId>()
    for (const [userId, outcome] of outcomes) {
      if (outcome === "given up") givenUp.add(userId)
      else answers.set(userId, outcome)
    }
    const now = yield* Clock.currentTimeMillis
    const fetched = begun.flatMap((question) => {
      const answer = answers.get(question.userId)
      return answer === undefined
        ? []
        : [{ streamId: undefined, ...answer, ...question, retryAt: retryAt(question.userId, now) }]
    })
    // Many users are asked for when a client first needs the keys of a room: no list was known, so no change is announced.
    if (fetched.length > 0) yield* store.finish(fetched, userIds.length <= few)
    if (givenUp.size > 0) yield* store.postpone([...givenUp], now + ownLimitDelay)
    const missing = userIds.filter((userId) => !answers.has(userId) && !givenUp.has(userId))
    if (missing.length > 0) yield* store.failed(missing, now)
    return answers
  })

  /** Asks for users, a part of them at a time, and completes the waiting requests of each part when it is answered. */
  const fetchAll = Effect.fnUntraced(function* (
    begun: ReadonlyMap<UserId, Deferred.Deferred<boolean>>,
    isUrgent: boolean
  ) {
    const userIds = [...begun.keys()]
    for (let at = 0; at < userIds.length; at += maxUsersOfQuestion) {
      const part = userIds.slice(at, at + maxUsersOfQuestion)
      const answers = yield* fetch(part, isUrgent)
      for (const userId of part) Deferred.doneUnsafe(begun.get(userId)!, Effect.succeed(answers.has(userId)))
      for (const userId of part) asked.delete(userId)
    }
  })

  /** Asks for those users that are not being asked for, and waits for all. Returns those without an answer. */
  const ask = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>, isUrgent: boolean) {
    const begun = new Map<UserId, Deferred.Deferred<boolean>>()
    const answered = userIds.map((userId) => {
      const running = asked.get(userId)
      if (running !== undefined) return running
      const deferred = Deferred.makeUnsafe<boolean>()
      asked.set(userId, deferred)
      begun.set(userId, deferred)
      return deferred
    })
    // Waiting requests end with this one, whatever its outcome.
    const abandon = Effect.sync(() => {
      for (const [userId, deferred] of begun) {
        if (asked.get(userId) === deferred) asked.delete(userId)
        Deferred.doneUnsafe(deferred, Effect.succeed(false))
      }
    })
    yield* Effect.ensuring(fetchAll(begun, isUrgent), abandon)
    const given = yield* Effect.forEach(answered, (deferred) => Deferred.await(deferred))
    return userIds.filter((_, index) => !given[index])
  })

  const planNext = Effect.flatMap(store.nextResync(server), (at) => resyncs.plan(server, at))

  const resync = Effect.gen(function* () {
    while (true) {
      const due = yield* store.due(server, yield* Clock.currentTimeMillis, maxResynced)
      if (due.length === 0) return yield* planNext
      const reached = yield* Effect.result(destinations.check(server))
      if (Result.isFailure(reached)) return yield* resyncs.plan(server, reached.failure.retryAt)
      yield* ask(due, false)
    }
  })

  return RemoteDevices.of({
    Fetch: ({ payload: { isUrgent, userIds } }) => Effect.tap(ask(userIds, isUrgent), () => planNext),
    Resync: () => oneResync(resync)
  })
})

/** Registers the actor with the runner. */
export const layer = RemoteDevices.toLayer(behaviour, {
  concurrency: "unbounded",
  maxIdleTime: "1 minute",
  disableFatalDefects: true
})
