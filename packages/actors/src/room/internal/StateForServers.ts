/**
 * The state of a room for other servers: before an event, with the events that authorise it.
 *
 * Source: "Retrieving state", "Joining Rooms" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { isMatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { AuthChainStore } from "@greenroom/store/AuthChainStore"
import { type Allowance, CurrentAllowance } from "@greenroom/store/LargeReads"
import type { StateRef } from "@greenroom/store/StateStore"
import { Effect } from "effect"
import { sliced } from "../../runtime/Slices.ts"
import type { RemoteState } from "../RemoteRooms.ts"
import { requireAdmitted } from "../ServerAcl.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { sameRef } from "./StateBranches.ts"

/** The auth chain of a state with those events of it that authorise others: Dendrite reads the chain alone. */
function* wholeChain(state: ReadonlyArray<Event>, behind: ReadonlyArray<Event>): Generator<void, ReadonlyArray<Event>> {
  const chain = new Map<EventId, Event>()
  const named = new Set<EventId>()
  for (const event of behind) {
    chain.set(event.event_id, event)
    for (const id of event.auth_events) named.add(id)
    yield
  }
  for (const event of state) {
    for (const id of event.auth_events) named.add(id)
    yield
  }
  for (const event of state) {
    if (named.has(event.event_id) || event.type === "m.room.create") chain.set(event.event_id, event)
    yield
  }
  return [...chain.values()]
}

/** The auth events of a state that are not part of it. */
function* namedBeside(state: ReadonlyArray<Event>): Generator<void, ReadonlyArray<EventId>> {
  const named = new Set<EventId>()
  for (const { auth_events } of state) {
    for (const id of auth_events) named.add(id)
    yield
  }
  for (const { event_id } of state) {
    named.delete(event_id)
    yield
  }
  return [...named]
}

/** A state that is in memory. */
export interface KnownState {
  readonly ref: StateRef
  readonly state: ReadonlyArray<Event>
}

/** The current state. */
export const stateNow = ({ current, ref }: RoomState): KnownState | undefined =>
  ref === undefined ? undefined : { ref, state: [...current.values()].map(({ event }) => event) }

export const makeStateForServers = Effect.fnUntraced(function* (
  { states }: RoomWriter,
  { graph, loadOurs, notFound }: RoomIntake
) {
  const chains = yield* AuthChainStore

  /** The events that authorise those of a state, beside it. Mostly a state names few others, so only theirs are looked up. */
  const chainBehind = Effect.fnUntraced(function* (room: RoomState, state: ReadonlyArray<Event>) {
    const others = yield* sliced(() => namedBeside(state))
    if (others.length === 0) return []
    const named = yield* graph.known(room, others)
    const inState = new Set(state.map(({ event_id }) => event_id))
    return [...[...named.values()].map(({ event }) => event), ...(yield* chains.events(others))].filter(
      ({ event_id }) => !inState.has(event_id)
    )
  })

  /** The state before an event with the events that authorise it. A state that is `known` is not read. */
  const stateBefore = Effect.fnUntraced(function* (
    room: RoomState,
    at: EventId | undefined,
    allowance: Allowance,
    known?: KnownState
  ): Effect.fn.Return<RemoteState, Failure> {
    const ref = at === undefined ? room.ref : (yield* graph.known(room, [at])).get(at)?.before
    if (ref === undefined) return yield* new NotFound({ error: `There is no event ${at} in this room` })
    const read = Effect.gen(function* () {
      const state =
        known !== undefined && sameRef(ref, known.ref)
          ? known.state
          : (yield* states.read([{ roomNid: room.roomNid, ref }])).map((entry) => entry.event)
      const behind = yield* chainBehind(room, state)
      return { state, authChain: isDraft(room.version) ? behind : yield* sliced(() => wholeChain(state, behind)) }
    })
    return yield* Effect.catchDefect(Effect.provideService(read, CurrentAllowance, allowance), (defect) =>
      isMatrixError(defect) ? Effect.fail(defect) : Effect.die(defect)
    )
  })

  /** The room for a server in it. For a server that is not in it, and not kept out either, the room does not exist. */
  const roomFor = Effect.fnUntraced(function* (origin: ServerName): Effect.fn.Return<RoomState, Failure> {
    const room = yield* loadOurs
    yield* requireAdmitted(room.lookup, origin)
    if (!room.servers.has(origin)) return yield* notFound
    return room
  })

  const getState = (
    origin: ServerName,
    at: EventId | undefined,
    allowance: Allowance
  ): Effect.Effect<RemoteState, Failure> => Effect.flatMap(roomFor(origin), (room) => stateBefore(room, at, allowance))

  const requireServer = (origin: ServerName): Effect.Effect<void, Failure> => Effect.asVoid(roomFor(origin))

  return { getState, requireServer, stateBefore }
})

export type StateForServers = Effect.Success<ReturnType<typeof makeStateForServers>>
