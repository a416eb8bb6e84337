/**
 * The Peer actor: one per other home server, its key is the server name. It sends what waits for that server, as
 * transactions: at most 50 PDUs and 100 EDUs each, one at a time. The next one follows the answer to the last, so the
 * other server sets the pace, also when it catches up after a long time away.
 *
 * PDUs wait in the store (`OutgoingStore`), and a transaction with PDUs is stored before it is sent: until it is
 * acknowledged every attempt sends that one, also after the process was killed. EDUs wait in memory alone
 * (`PendingEdus`). While this process lasts a repeated transaction has the same EDUs, unless it has become too late for
 * them; a transaction with EDUs alone is not repeated.
 *
 * EDUs that must arrive (messages to devices, changes of keys) are stored too (`OutgoingEduStore`), and go in transactions of
 * their own.
 *
 * A transaction that the server refuses is sent again a few times, then PDU by PDU; a PDU that it refuses alone is dropped
 * (`TransactionRefusal`). So no single item stops the queue.
 *
 * A server that cannot be reached is spared until `Destinations` says so; then the EDUs for it are dropped. A short
 * wait passes in the actor. A long one does not keep it in memory: `Peers` looks for servers whose time has come.
 *
 * Source: "Transactions" of the specification.
 */
import { randomBytes } from "node:crypto"
import { todaysKeyPath } from "@greenroom/protocol/federation/KeyApi"
import { maxEdus, type TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingStore, type StoredTransaction } from "@greenroom/store/OutgoingStore"
import { Clock, Effect, FiberHandle, Option, Random, Result, Semaphore } from "effect"
import { Entity } from "effect/cluster"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Destinations } from "./Destinations.ts"
import { FederationRooms } from "./FederationRooms.ts"
import { FederationTransport } from "./FederationTransport.ts"
import { Peer } from "./PeerProtocol.ts"
import { type EduContent, eduFreshness, PendingEdus } from "./PendingEdus.ts"
import type { RemoteInvalid, RemoteRefused, RemoteUnreachable } from "./RemoteError.ts"
import { ServerServerClient } from "./ServerServerClient.ts"
import { refusalsUntilFinal, waitAfterRefusal } from "./TransactionRefusal.ts"

// --- State ------------------------------------------------------------------------------------------------------------

/** The longest wait that passes in the actor, in milliseconds; it stays in memory for longer than that. */
const longestOwnWait = 60_000

/** The shortest wait after a failure, in milliseconds. */
const shortestWait = 500

/** How long a server that was not there may take to show that it is, in milliseconds, and how much it may say. */
const probeTimeout = 10_000
const maxProbeBytes = 64 * 1024

/** A transaction to send; without `stored`, of EDUs alone: of those that must arrive, or of those that may be lost. */
interface Outgoing {
  readonly stored: StoredTransaction | undefined
  /** The ID of a transaction of EDUs that must arrive. */
  readonly durable?: string
  readonly edus: ReadonlyArray<EduContent>
}

const reasonOf = (error: RemoteRefused | RemoteInvalid): string =>
  error._tag === "RemoteRefused" ? `${error.status} ${error.errcode}: ${error.error}` : error.reason

const refusedPdus = ({ pdus }: TransactionAnswer): ReadonlyArray<string> =>
  Object.entries(pdus).flatMap(([name, { error }]) => (error === undefined ? [] : [`${name}: ${error}`]))

// --- Behaviour --------------------------------------------------------------------------------------------------------

const behaviour = Effect.gen(function* () {
  const destination = (yield* Entity.CurrentAddress).entityId as unknown as ServerName
  const scope = yield* Effect.scope
  const { serverName } = yield* HomeServerConfig
  const store = yield* OutgoingStore
  const eduStore = yield* OutgoingEduStore
  const destinations = yield* Destinations
  const rooms = yield* FederationRooms
  const client = yield* ServerServerClient
  const transport = yield* FederationTransport
  const retry = yield* FiberHandle.make()
  const oneAtATime = Semaphore.makeUnsafe(1).withPermits(1)

  const pending = new PendingEdus()
  /** Whether the store may have something for the server. */
  let queued = true
  /** The EDUs that went with the transaction which is not acknowledged. */
  let attached:
    | { readonly transactionId: string; readonly edus: ReadonlyArray<EduContent>; readonly at: number }
    | undefined

  /** For how long the server is to be spared, as all nodes know it, in ms; 0 if it is not. */
  const knownSparing = Effect.matchEffect(destinations.check(destination), {
    onSuccess: () => Effect.succeed(0),
    onFailure: ({ retryAt = 0 }) => remaining(retryAt)
  })
  const remaining = (until: number) => Effect.map(Clock.currentTimeMillis, (now) => Math.max(0, until - now))
  const initialSparing = yield* knownSparing
  /** Until when the server is spared, by the monotonic clock. */
  let spareUntil = initialSparing === 0 ? 0 : (yield* monotonicMillis) + initialSparing
  /** Whether the last attempt found nobody. */
  let unreachable = initialSparing > 0
  /** How many attempts in a row the server has answered with an error. */
  let refusals = 0
  /** How many of the next PDUs are sent one by one, because a transaction with them was refused. */
  let singly = 0

  // What is next

  /** None beside a PDU of a refused transaction: what is refused then is the PDU. */
  const edusFor = (transactionId: string, now: number): ReadonlyArray<EduContent> => {
    if (singly > 0) return []
    if (attached?.transactionId !== transactionId) {
      attached = { transactionId, edus: pending.take(maxEdus, now), at: now }
    }
    return now - attached.at <= eduFreshness ? attached.edus : []
  }

  const next = Effect.fnUntraced(function* (now: number): Effect.fn.Return<Outgoing | undefined> {
    if (queued) {
      queued = false
      // Before events that are read with the keys which they bring.
      const durable = yield* Effect.onError(eduStore.next(destination), () => Effect.sync(() => (queued = true)))
      if (Option.isSome(durable)) {
        queued = true
        return { stored: undefined, durable: durable.value.transactionId, edus: durable.value.edus }
      }
      const stored = yield* Effect.onError(store.next(destination, singly > 0 ? 1 : undefined), () =>
        Effect.sync(() => (queued = true))
      )
      queued = queued || Option.isSome(stored)
      if (Option.isSome(stored)) return { stored: stored.value, edus: edusFor(stored.value.transactionId, now) }
    }
    const edus = pending.take(maxEdus, now)
    return edus.length === 0 ? undefined : { stored: undefined, edus }
  })

  // Sending

  /** The cheapest request that shows whether the server is there: nothing is signed for one that is not. */
  const probe = transport
    .request({ destination, method: "GET", uri: todaysKeyPath, maxBytes: maxProbeBytes, timeout: probeTimeout })
    .pipe(
      Effect.catchTag("RemoteInvalid", () => Effect.void),
      Effect.tapError(({ reason }) => destinations.failed(destination, reason))
    )

  const send = Effect.fnUntraced(function* ({ durable, edus, stored }: Outgoing) {
    if (unreachable) yield* probe
    unreachable = false
    const pdus = stored === undefined ? [] : yield* rooms.toPdus(stored.events)
    return yield* client.sendTransaction(destination, {
      transaction_id: stored?.transactionId ?? durable ?? randomBytes(12).toString("base64url"),
      origin: serverName,
      destination,
      ts: stored?.ts ?? (yield* Clock.currentTimeMillis),
      prev_ids: stored?.prevIds ?? [],
      pdus,
      ...(edus.length === 0 ? {} : { edus: edus.map((edu) => ({ ...edu, origin: serverName, destination })) })
    })
  })

  /** The PDUs of the transaction wait no longer. */
  const settle = Effect.fnUntraced(function* ({ events, transactionId }: StoredTransaction) {
    attached = undefined
    singly = Math.max(0, singly - events.length)
    yield* store.acknowledge(destination, transactionId)
  })

  const acknowledged = Effect.fnUntraced(function* (stored: StoredTransaction, answer: TransactionAnswer) {
    yield* settle(stored)
    const refused = refusedPdus(answer)
    if (refused.length > 0)
      yield* Effect.logWarning(`${destination} did not take ${refused.join("; ").slice(0, 2_000)}`)
  })

  /** The server is left alone for so many ms, and EDUs for it are dropped. */
  const spareFor = (duration: number) =>
    Effect.map(monotonicMillis, (now) => {
      pending.clear()
      // What is committed meanwhile does not wake this actor.
      queued = true
      spareUntil = now + duration
    })

  /** Goes on by itself when a short wait is over. */
  const waitForRetry = (now: number): Effect.Effect<void> => {
    const wait = Math.ceil(spareUntil - now)
    if (wait > longestOwnWait) return Effect.void
    return Effect.asVoid(FiberHandle.run(retry, Effect.andThen(Effect.sleep(wait), start)))
  }

  /** `Destinations` has logged why, and knows until when all nodes spare the server. */
  const unreached = Effect.fnUntraced(function* ({ retryAt }: RemoteUnreachable) {
    unreachable = true
    const wait = retryAt === undefined ? yield* knownSparing : yield* remaining(retryAt)
    yield* spareFor(Math.max(wait, shortestWait))
  })

  /** The transaction will not be taken as it is: its PDUs go one by one, and the only PDU of one is dropped. */
  const giveUp = Effect.fnUntraced(function* (stored: StoredTransaction, hadEdus: boolean, reason: string) {
    const [first, ...others] = stored.events
    if (others.length > 0 || hadEdus) {
      singly = Math.max(singly, stored.events.length)
      yield* store.reduce(destination, stored.transactionId)
      return yield* Effect.logWarning(`${destination} refuses a transaction, its PDUs are sent one by one: ${reason}`)
    }
    yield* settle(stored)
    yield* Effect.logError(`${destination} refuses ${first?.event_id ?? "a PDU"}, it is dropped: ${reason}`)
  })

  /** A server that answers with errors can be reached: how long it is spared is known here alone. */
  const refused = Effect.fnUntraced(function* (
    { durable, edus, stored }: Outgoing,
    error: RemoteRefused | RemoteInvalid
  ) {
    const unstored = durable === undefined ? 1 : refusals + 1
    const count = stored === undefined ? unstored : yield* store.refused(destination, stored.transactionId)
    const isFinal = count >= refusalsUntilFinal(error)
    queued = true
    if (isFinal && durable !== undefined) {
      yield* eduStore.remove(destination, durable)
      yield* Effect.logError(`${destination} refuses EDUs, they are dropped: ${reasonOf(error)}`)
    }
    if (!isFinal || stored === undefined) {
      yield* Effect.logWarning(`${destination} refuses a transaction: ${reasonOf(error)}`)
    } else yield* giveUp(stored, edus.length > 0, reasonOf(error))
    const asked = error._tag === "RemoteRefused" ? error.retryAfter : undefined
    const wait = waitAfterRefusal(++refusals, isFinal, yield* Random.next, asked)
    if (wait > 0) yield* spareFor(wait)
  })

  const sendAll: Effect.Effect<void> = Effect.gen(function* () {
    while (true) {
      const now = yield* monotonicMillis
      if (now < spareUntil) return yield* waitForRetry(now)
      const outgoing = yield* next(now)
      if (outgoing === undefined) return
      const { stored } = outgoing
      const answer = yield* Effect.result(send(outgoing))
      if (Result.isSuccess(answer)) {
        refusals = 0
        if (outgoing.durable !== undefined) yield* eduStore.remove(destination, outgoing.durable)
        if (stored !== undefined) yield* acknowledged(stored, answer.success)
      } else if (answer.failure._tag === "RemoteUnreachable") yield* unreached(answer.failure)
      else yield* refused(outgoing, answer.failure)
    }
  })

  let starting = false

  /** Sends in the background. */
  const start: Effect.Effect<void> = Effect.suspend(() => {
    if (starting) return Effect.void
    starting = true
    const sending = oneAtATime(
      Effect.suspend(() => {
        starting = false
        return sendAll
      })
    )
    return sending.pipe(
      Effect.catchCause((cause) => Effect.logError(`Sending to ${destination}`, cause)),
      Effect.forkIn(scope),
      Effect.asVoid
    )
  })

  return Peer.of({
    Drain: () =>
      Effect.suspend(() => {
        queued = true
        return Effect.map(Effect.andThen(oneAtATime(sendAll), monotonicMillis), (now) => ({
          spareFor: Math.max(0, spareUntil - now)
        }))
      }),
    Tell: Effect.fnUntraced(function* ({ payload: { edus } }) {
      const now = yield* monotonicMillis
      if (now < spareUntil) return
      for (const edu of edus) pending.add(edu, now)
      yield* start
    }),
    HeardFrom: () =>
      Effect.suspend(() => {
        spareUntil = 0
        queued = true
        return start
      })
  })
})

/** Registers the actor with the runner. */
export const layer = Peer.toLayer(behaviour, {
  concurrency: "unbounded",
  maxIdleTime: 2 * longestOwnWait,
  disableFatalDefects: true
})
