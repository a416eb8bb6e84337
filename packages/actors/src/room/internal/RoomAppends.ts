/**
 * Appending events of our users to a room: an event is built, authorised and placed in one synchronous step, and answered when its
 * commit is durable.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { BadJson, Forbidden, type MatrixError, TooLarge } from "@greenroom/protocol/MatrixError"
import { needsRecommendation } from "@greenroom/room/RoomPolicy"
import type { EventProposal, PduProblem, StateLookup } from "@greenroom/room/RoomVersion"
import type { SigningKey } from "@greenroom/room/Signing"
import { type CommitFailed, EventStatus, type StaleWriter } from "@greenroom/store/EventLog"
import { Effect, Result } from "effect"
import type { RoomTransaction } from "../RoomProtocol.ts"
import { withReplaced } from "./ReplacedState.ts"
import type { RoomGraph } from "./RoomGraph.ts"
import type { RoomPolicies } from "./RoomPolicies.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

const refusePdu = (problem: PduProblem): MatrixError =>
  problem._tag === "TooLarge"
    ? new TooLarge({ error: `The event has ${problem.bytes} bytes; 65536 are the limit` })
    : new BadJson({ error: problem.reason })

const noRedactions = (): ReadonlyArray<Event> => []

/** The device that sends an event gets its transaction ID back with it. */
const withTransaction = (event: Event, given?: RoomTransaction): Event =>
  given === undefined || given.ofServer
    ? event
    : { ...event, unsigned: { ...event.unsigned, transaction: { tokenId: given.tokenId, txnId: given.txnId } } }

/** An event that follows the current state. */
const replacing = (room: RoomState, event: Event): Event =>
  event.state_key === undefined ? event : withReplaced(room.version, event, room.lookup(event.type, event.state_key))

export const makeRoomAppends = (writer: RoomWriter, graph: RoomGraph, policies: RoomPolicies) => {
  const { log, nextChain, nextNid, roomId, serverName, signingKey, takeStep, transactions } = writer

  type Refused = { readonly refused: MatrixError }
  type Appended = { readonly event: Event; readonly durable: Effect.Effect<void, StaleWriter | CommitFailed> }
  type Also = (event: Event) => Parameters<RoomState["commit"]>[1]

  const answerTo = (transaction: RoomTransaction, { event_id }: Event) =>
    transactions.row(transaction, roomId, { event_id })

  const refusalOf = (room: RoomState, event: Event, state: StateLookup = room.lookup): MatrixError | undefined => {
    const refusal = room.version.authorise(event, state)
    if (refusal === undefined) return undefined
    return refusal.ofContent ? new BadJson({ error: refusal.rule }) : new Forbidden({ error: refusal.rule })
  }

  /**
   * Builds, authorises and appends one event, and queues its commit. Synchronous: this is its place in the order. Undefined
   * where the event cannot name all forward extremities.
   */
  const appendNow = (
    room: RoomState,
    proposal: EventProposal,
    now: number,
    key: SigningKey,
    transaction: RoomTransaction | undefined,
    also: Also
  ): Appended | Refused | undefined => {
    const others = room.extremities.length - 1
    if (others >= room.version.maxPrevEvents) return undefined
    const built = room.propose(proposal, now, key)
    if (Result.isFailure(built)) {
      return others > 0 && built.failure._tag === "TooLarge" ? undefined : { refused: refusePdu(built.failure) }
    }
    const refused = refusalOf(room, built.success)
    if (refused !== undefined) return { refused }
    const event = replacing(room, withTransaction(built.success, transaction))
    const step = room.beginStep()
    room.append(step, event, nextNid(), nextChain)
    return { event, durable: log.append(room.commit(step, also(event))) }
  }

  /**
   * Appends an event that names some of the forward extremities, or that a policy server is asked about first: it is placed
   * by the state after those that it names. The room may move on meanwhile.
   */
  const appendAmong = Effect.fnUntraced(function* (
    room: RoomState,
    proposal: EventProposal,
    now: number,
    key: SigningKey,
    transaction: RoomTransaction | undefined
  ) {
    const seal = room.policy === undefined ? room.sealFor(proposal, key) : key
    const { built, state } = yield* graph.build(room, proposal, now, serverName, seal)
    if (Result.isFailure(built)) return yield* Effect.fail(refusePdu(built.failure))
    const proposed = withTransaction(built.success, transaction)
    const refused = refusalOf(room, proposed, state) ?? refusalOf(room, proposed)
    if (refused !== undefined) return yield* Effect.fail(refused)
    const event = yield* policies.recommended(room, proposed)
    const before = room.serversBefore(event)
    const placed = yield* graph.place(room, event, {
      relayTo: (after) => after.destinations(before),
      sendAnyway: policies.sendAnyway,
      answers: transaction === undefined ? undefined : answerTo(transaction, event)
    })
    if (placed._tag !== "Placed" || placed.status !== EventStatus.timeline) {
      return yield* new Forbidden({ error: "The room has changed: the event is not allowed any more" })
    }
    yield* placed.durable
    return { event_id: event.event_id }
  })

  const append = (
    room: RoomState,
    proposal: EventProposal,
    transaction: RoomTransaction | undefined,
    redactions: (event: Event) => ReadonlyArray<Event> = noRedactions,
    at?: number
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError | StaleWriter | CommitFailed> =>
    Effect.flatMap(signingKey, (key) =>
      Effect.clockWith((clock) => {
        const now = at ?? clock.currentTimeMillisUnsafe()
        const among = () => appendAmong(room, proposal, now, key, transaction)
        if (room.policy !== undefined && needsRecommendation(proposal)) return among()
        const also: Also = (event) => ({
          transactions: transaction === undefined ? [] : [answerTo(transaction, event)],
          redactions: redactions(event)
        })
        return Effect.flatMap(
          takeStep(1, () => appendNow(room, proposal, now, key, transaction, also)),
          (appended) => {
            if (appended === undefined) return among()
            if ("refused" in appended) return Effect.fail(appended.refused)
            return Effect.as(appended.durable, { event_id: appended.event.event_id })
          }
        )
      })
    )

  /** Appends the m.room.create of a new room and the state that follows it, as one commit. */
  const appendAll = (
    room: RoomState,
    create: Event,
    proposals: ReadonlyArray<EventProposal>,
    now: number,
    key: SigningKey,
    also: Parameters<RoomState["commit"]>[1]
  ): { readonly durable: Effect.Effect<void, StaleWriter | CommitFailed> } | Refused => {
    const step = room.beginStep()
    const append = (event: Event) => {
      const refused = refusalOf(room, event)
      if (refused === undefined) room.append(step, replacing(room, event), nextNid(), nextChain)
      return refused
    }
    const refused = append(create)
    if (refused !== undefined) return { refused }
    for (const proposal of proposals) {
      const built = room.propose(proposal, now, key)
      if (Result.isFailure(built)) return { refused: refusePdu(built.failure) }
      const refused = append(built.success)
      if (refused !== undefined) return { refused }
    }
    return { durable: log.append(room.commit(step, also)) }
  }

  return { append, appendAll }
}

export type RoomAppends = ReturnType<typeof makeRoomAppends>
