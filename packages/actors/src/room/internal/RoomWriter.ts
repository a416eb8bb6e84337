/**
 * The Room actor's hold on its room: opening it for writing, keeping it in memory, and forgetting it where a commit
 * fails, so that it is read again from the store.
 */
import { RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { senderMustBeJoined } from "@greenroom/room/OutsiderRules"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { type CommitFailed, EventLog, type StaleWriter } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { withoutAllowance } from "@greenroom/store/LargeReads"
import { RoomStore } from "@greenroom/store/RoomStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { StateStore } from "@greenroom/store/StateStore"
import { Cause, Effect, Exit, Latch, Option } from "effect"
import { Entity } from "effect/cluster"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { NodeUnavailable } from "../../runtime/NodeUnavailable.ts"
import { MemberPushRules } from "../MemberPushRules.ts"
import { RoomState } from "./RoomState.ts"
import { RoomTransactions } from "./RoomTransactions.ts"

/** The most attempts of a request that fails because of the commits of others. One whose own commit fails has two. */
const maxAttempts = 5

/** How many chains of states one step begins at most: for the state before an event, after it, and the current one. */
const chainsPerStep = 8

export const makeRoomWriter = Effect.gen(function* () {
  const roomId = RoomId.make((yield* Entity.CurrentAddress).entityId)
  const { serverName } = yield* HomeServerConfig
  const log = yield* EventLog
  const rooms = yield* RoomStore
  const states = yield* StateStore
  const events = yield* EventStore
  const pushRules = yield* MemberPushRules
  const { current: signingKey } = yield* SigningKeys

  let loading: Effect.Effect<RoomState, MatrixError> | undefined
  /** The number under which the room in memory was opened; 0 if there is none. */
  let fence = 0

  /** The room is opened first: then no earlier writer can add an answer to those that are read. */
  const transactions = new RoomTransactions({
    ids: (tokenId) => Effect.andThen(Effect.ignore(load), rooms.transactionIds(tokenId, roomId)),
    find: (tokenId, txnId) => rooms.transaction(tokenId, roomId, txnId)
  })

  const unload = Effect.sync(() => {
    loading = undefined
    fence = 0
  })

  const forget = Effect.andThen(
    unload,
    Effect.sync(() => transactions.clear())
  )

  /** Many commits may fail together; only the first finds the room that they were made for. */
  const forgetAfter = (failure: StaleWriter | CommitFailed) => (failure.fence === fence ? forget : Effect.void)

  /** PDUs of these versions name other events with their hashes. */
  const addReferenceHashes = Effect.fnUntraced(function* (room: RoomState) {
    const stored = yield* events.byIds(room.extremities.map(({ event_id }) => event_id))
    const byId = new Map(stored.map(({ event }) => [event.event_id, event]))
    room.extremities = room.extremities.map((extremity) =>
      room.extremityOf(byId.get(extremity.event_id)!, extremity.after)
    )
  })

  const open = Effect.gen(function* () {
    const opened = yield* rooms.open(roomId)
    if (Option.isNone(opened)) return yield* new NotFound({ error: `There is no room ${roomId}` })
    const version = roomVersion(opened.value.version)
    if (version === undefined) return yield* Effect.die(`Room ${roomId} has version ${opened.value.version}`)
    const { current, roomNid } = opened.value
    const entries = current === undefined ? [] : yield* withoutAllowance(states.load(roomNid, current))
    const chains = opened.value.forwardExtremities.map(({ after }) => after.chain)
    const ends = yield* states.ends(current === undefined ? [] : [...new Set([...chains, current.chain])])
    const room = new RoomState(roomId, opened.value, version, serverName, entries, ends, pushRules)
    if (version.namesReferenceHashes) yield* addReferenceHashes(room)
    return room
  })

  /**
   * A failed opening, mostly of a room that is still to be created, leaves the transactions in memory: one of them may be
   * creating the room. The outcome of an opening counts only if the room was not forgotten meanwhile.
   */
  const load = Effect.suspend(() => {
    if (loading !== undefined) return loading
    const begun: Effect.Effect<RoomState, MatrixError> = Effect.runSync(
      Effect.cached(
        Effect.onExit(open, (exit) => {
          if (loading !== begun) return Effect.void
          if (Exit.isFailure(exit)) return unload
          fence = exit.value.fence
          return Effect.void
        })
      )
    )
    loading = begun
    return begun
  })

  /** The room if it is in memory. */
  const loaded = Effect.suspend(() =>
    fence === 0 || loading === undefined ? Effect.succeedNone : Effect.option(loading)
  )

  const mustBeJoined = new Forbidden({ error: senderMustBeJoined })

  /** The room, for a user in it. Others do not learn whether there is such a room. */
  const loadForMember = (userId: UserId) =>
    Effect.flatMap(
      Effect.catchTag(load, "M_NOT_FOUND", () => mustBeJoined),
      (room) => (room.membershipOf(userId) === "join" ? Effect.succeed(room) : mustBeJoined)
    )

  /** A request whose commit failed together with those of others can be repeated later: the fault may be in any of them. */
  const defectOf = (failure: StaleWriter | CommitFailed) =>
    failure._tag === "CommitFailed" && failure.untouched
      ? new NodeUnavailable(`The commits of other requests for ${roomId} failed`)
      : failure

  /**
   * Runs a request to its commit. If the commit fails, the state in memory is dropped; a request of which nothing can have
   * been stored, or whose transaction ID shows it, runs again on the reloaded room. After a defect the state in memory
   * cannot be trusted: it is dropped too.
   */
  const durably = <A>(
    request: Effect.Effect<A, MatrixError | StaleWriter | CommitFailed>,
    repeatable: boolean
  ): Effect.Effect<A, MatrixError> => {
    const again = (failure: StaleWriter | CommitFailed, budget: number) => {
      const isBlameless = failure._tag === "StaleWriter" || failure.untouched
      const left = budget - (isBlameless ? 1 : (maxAttempts + 1) / 2)
      return Effect.andThen(
        forgetAfter(failure),
        left > 0 && (repeatable || isBlameless) ? Effect.suspend(() => attempt(left)) : Effect.die(defectOf(failure))
      )
    }
    const attempt = (budget: number): Effect.Effect<A, MatrixError> =>
      Effect.catchCause(withoutAllowance(request), (cause): Effect.Effect<A, MatrixError> => {
        if (Cause.hasDies(cause)) return Effect.andThen(forget, Effect.failCause(cause as Cause.Cause<never>))
        const failure = Option.getOrUndefined(Cause.findErrorOption(cause))
        return failure?._tag === "StaleWriter" || failure?._tag === "CommitFailed"
          ? again(failure, budget)
          : Effect.failCause(cause as Cause.Cause<MatrixError>)
      })
    return attempt(maxAttempts)
  }

  const hasNumbers = (count: number): boolean => log.nids.hasUnsafe(count) && states.chains.hasUnsafe(chainsPerStep)

  /** Runs a synchronous step once enough numbers are reserved for it. */
  const withNids = <A>(count: number, step: () => A): Effect.Effect<A> =>
    Effect.suspend(() =>
      hasNumbers(count)
        ? Effect.sync(step)
        : Effect.andThen(
            Effect.all([log.nids.refill(count), states.chains.refill(chainsPerStep)], { discard: true }),
            Effect.suspend(() => withNids(count, step))
          )
    )
  /** Open while everybody may take a step; closed while one request has the room exclusively. */
  const stepsAllowed = Latch.makeUnsafe(true)

  /** The same, once no request has the room exclusively. */
  const takeStep = <A>(count: number, step: () => A): Effect.Effect<A> =>
    Effect.suspend(() => {
      if (!stepsAllowed.isOpen()) return Effect.andThen(stepsAllowed.await, takeStep(count, step))
      return hasNumbers(count)
        ? Effect.succeed(step())
        : Effect.flatMap(
            withNids(count, () => (stepsAllowed.isOpen() ? { result: step() } : undefined)),
            (done) => (done === undefined ? takeStep(count, step) : Effect.succeed(done.result))
          )
    })

  /** Runs with exclusive access to the room, so that it stays the same between two reads. */
  const alone = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      stepsAllowed.closeUnsafe()
      return Effect.ensuring(
        effect,
        Effect.sync(() => stepsAllowed.openUnsafe())
      )
    })

  const nextNid = () => log.nids.takeUnsafe()!
  const nextChain = () => states.chains.takeUnsafe()!

  return {
    roomId,
    serverName,
    signingKey,
    log,
    rooms,
    states,
    transactions,
    load,
    loaded,
    loadForMember,
    forget,
    durably,
    withNids,
    takeStep,
    alone,
    nextNid,
    nextChain
  }
})

export type RoomWriter = Effect.Success<typeof makeRoomWriter>
