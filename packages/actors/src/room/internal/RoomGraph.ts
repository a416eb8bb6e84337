/**
 * The event graph of a room: gives events of other servers their place in it. An event that follows all known events costs
 * no more than one of our own; where the graph forks, the states are resolved at a cost that follows what the forks have
 * changed.
 *
 * `PlacementPlans` decides what becomes of an event, `EventStates` has the states before and after it, `ReceivedRedactions`
 * what redactions strip, and `ForkedProposals` builds events of our own users that follow several extremities.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type Refusal, stateKeyOf } from "@greenroom/room/RoomVersion"
import { type ClientTransaction, type CommitFailed, EventStatus, type StaleWriter } from "@greenroom/store/EventLog"
import type { StateRef } from "@greenroom/store/StateStore"
import { Effect } from "effect"
import type { KnownEvents } from "../RemoteRooms.ts"
import { makeEventStates } from "./EventStates.ts"
import { makeForkedProposals } from "./ForkedProposals.ts"
import { makePlacementPlans, type PlacementPlan, type PlanOptions } from "./PlacementPlans.ts"
import { makeReceivedRedactions } from "./ReceivedRedactions.ts"
import { makeRoomEvents } from "./RoomEvents.ts"
import { makeRoomResolution } from "./RoomResolution.ts"
import type { CurrentChange, KnownEvent, RoomState } from "./RoomState.ts"
import type { RoomStep } from "./RoomStep.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { sameRef } from "./StateBranches.ts"
import type { PointState } from "./StateComparison.ts"

/** How an event other than a newly received one is placed. */
export interface PlaceOptions extends PlanOptions {
  /** The servers to which this server sends it. */
  readonly relayTo?: (room: RoomState) => Iterable<ServerName>
  /** The request that it answers, if it is accepted. */
  readonly answers?: ClientTransaction | undefined
}

export type Placed =
  | { readonly _tag: "Known"; readonly status: EventStatus }
  | { readonly _tag: "Unplaceable"; readonly reason: string }
  | {
      readonly _tag: "Placed"
      readonly status: EventStatus
      readonly refusal: Refusal | undefined
      readonly durable: Effect.Effect<void, StaleWriter | CommitFailed>
    }

/** How often the room may change while a received event is planned, before other work waits for the event. */
const attemptsBesideOthers = 3

export const makeRoomGraph = Effect.fnUntraced(function* (writer: RoomWriter) {
  const { log, nextChain, nextNid, withNids } = writer
  const roomEvents = yield* makeRoomEvents(writer)
  const { flush, known } = roomEvents
  const resolution = yield* makeRoomResolution(writer, roomEvents)
  const states = makeEventStates(roomEvents, resolution)
  const redactions = yield* makeReceivedRedactions(roomEvents)
  const { citesForeign, plan, refresh, survey } = makePlacementPlans(roomEvents, resolution, states, redactions)
  const { build } = makeForkedProposals(resolution, states)

  /** Writes a resolved state as changes of a stored one. */
  const write = (room: RoomState, step: RoomStep, { changes, ref }: PointState): StateRef =>
    changes.size === 0 ? ref : room.chains.advance(step, ref, [...changes], nextChain)

  /** Synchronous but for its type: it decides the order of the room. */
  const placeNow = (room: RoomState, planned: PlacementPlan, options: PlaceOptions) => {
    const { event } = planned
    const { answers, historyNid, relayTo = () => [] } = options
    const step = room.beginStep()
    const nid = historyNid === undefined || planned.status === EventStatus.rejected ? nextNid() : historyNid
    const before = write(room, step, planned.before)
    const itself: KnownEvent = { event, nid, status: planned.status, before, after: undefined }
    const after = afterIt(room, step, event, nid, before, planned)
    const placed: KnownEvent = { ...itself, after }
    room.log(step, placed, {
      outlierNid: planned.outlier?.nid,
      authNids: planned.authNids,
      afterGap: planned.afterGap
    })
    const changes = planned.changes.map(
      ({ key, known: entry }): CurrentChange => ({ key, entry: entry === "itself" ? itself : entry })
    )
    // The state after an event that follows the current state is the new current state.
    if (!(changes.length === 1 && changes[0]!.entry === itself && sameRef(after, room.ref))) {
      room.changeCurrent(step, changes, nid, nextChain)
    }
    if (planned.follows) room.follow(event, after, planned.others)
    room.sendTo(step, nid, relayTo(room))
    for (const redacted of planned.redactions) room.applyRedaction(redacted)
    for (const { afterGap, redaction } of planned.released) {
      const released = { ...redaction, nid: nextNid(), status: EventStatus.timeline }
      room.log(step, released, { outlierNid: redaction.nid, afterGap })
    }
    if (options.surveyed !== undefined) refresh(options.surveyed, planned, placed)
    const isAnswer = answers !== undefined && planned.status === EventStatus.timeline
    return log.append(
      room.commit(step, {
        redactions: planned.redactions,
        transactions: isAnswer ? [answers] : [],
        ...(planned.released.length === 0 ? {} : { closedGaps: planned.released.map(({ redaction }) => redaction.nid) })
      })
    )
  }

  const afterIt = (
    room: RoomState,
    step: RoomStep,
    event: Event,
    nid: number,
    before: StateRef,
    planned: PlacementPlan
  ): StateRef => {
    if (event.state_key === undefined || planned.status === EventStatus.rejected) return before
    const key = stateKeyOf(event.type, event.state_key)
    const entry: KnownEvent = { event, nid, status: planned.status, before, after: undefined }
    if (sameRef(before, room.ref) && planned.changes.length === 1 && planned.changes[0]!.known === "itself") {
      room.changeCurrent(step, [{ key, entry }], nid, nextChain)
      return room.ref!
    }
    return room.chains.advance(step, before, [[key, { id: event.event_id, nid }]], nextChain)
  }

  /** Undefined if the room has moved on while the plan was made. */
  const attempt = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    options: PlaceOptions
  ): Effect.fn.Return<Placed | undefined, StaleWriter | CommitFailed> {
    const found = yield* plan(room, event, options)
    if (typeof found === "number") return { _tag: "Known", status: found }
    if (typeof found === "string") return { _tag: "Unplaceable", reason: found }
    const { planned, refusal } = found
    const size = planned.changes.length
    return yield* withNids(2 + Math.ceil(size / 1000) + planned.released.length, () =>
      room.generation === planned.generation
        ? {
            _tag: "Placed" as const,
            status: planned.status,
            refusal,
            durable: placeNow(room, planned, options)
          }
        : undefined
    )
  })

  /**
   * Places an event that has passed form, signature and hash, and whose predecessors are known (or the state before it
   * is `given`). The room may move on while the plan is made; then it is made again, and in the end others wait.
   */
  const place = (
    room: RoomState,
    event: Event,
    options: PlaceOptions = {}
  ): Effect.Effect<Placed, StaleWriter | CommitFailed> => {
    const again = (left: number): Effect.Effect<Placed, StaleWriter | CommitFailed> => {
      const attempted = attempt(room, event, options)
      return Effect.flatMap(left > 0 ? attempted : writer.alone(attempted), (placed) =>
        placed === undefined ? again(left - 1) : Effect.succeed(placed)
      )
    }
    return again(attemptsBesideOthers)
  }

  /** The events that the room knows, for a request to another server for the rest. */
  const knownBodies =
    (room: RoomState): KnownEvents =>
    (ids) =>
      Effect.map(known(room, ids), (found) => new Map([...found].map(([id, { event }]) => [id, event])))

  const { earlierRedactions, replacementsOf } = redactions
  return { known, citesForeign, knownBodies, survey, earlierRedactions, replacementsOf, place, build, flush }
})

export type RoomGraph = Effect.Success<ReturnType<typeof makeRoomGraph>>
