/**
 * A room that several servers share, as its actor sees it: events and requests of other servers. Requests of other servers
 * run one after the other; events of our own users are handled between them. Memberships of users of other servers are in
 * `IncomingMemberships`, the state that other servers ask for in `StateForServers`. Requests of our users to other servers are in
 * `OutgoingJoins`, `OutgoingLeaves`, `OutgoingKnocks`, `OutgoingInvites` and `RoomHistory`.
 *
 * Source: docs/federation.md, "Receiving a PDU" and "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, isUserId, type ServerName, serverNameOf } from "@greenroom/protocol/Identifiers"
import { topologicalOrder } from "@greenroom/room/EventGraph"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import type { WaitingEvent } from "@greenroom/store/WaitingEventStore"
import { Effect } from "effect"
import { mayPass } from "../../runtime/ItemFailure.ts"
import type { Outcome, Receive } from "../RoomProtocol.ts"
import { admits, keptOut } from "../ServerAcl.ts"
import { isVisibleTo, makeIncomingMemberships } from "./IncomingMemberships.ts"
import { makeOutgoingHandshakes } from "./OutgoingHandshakes.ts"
import { makeOutgoingInvites } from "./OutgoingInvites.ts"
import { makeOutgoingJoins } from "./OutgoingJoins.ts"
import { makeOutgoingKnocks } from "./OutgoingKnocks.ts"
import { makeOutgoingLeaves } from "./OutgoingLeaves.ts"
import { makeOutsideMemberships } from "./OutsideMemberships.ts"
import { makeRestrictedJoins } from "./RestrictedJoins.ts"
import type { ClosedGap } from "./RoomGaps.ts"
import { makeRoomHistory } from "./RoomHistory.ts"
import { type Failure, makeRoomIntake, type Placement } from "./RoomIntake.ts"
import { makeRoomPolicies } from "./RoomPolicies.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { makeStateForServers } from "./StateForServers.ts"
import { makeWaitingEvents } from "./WaitingEvents.ts"

/** A gap before which nothing is missing. */
const closedGap: Omit<ClosedGap, "events"> = {
  history: new Set(),
  states: new Map(),
  authEvents: [],
  isOpen: false,
  hasFailed: false,
  hasRefused: false
}

/** How long events of other servers wait for a join of ours that is under way. */
const longestJoinWait = "20 seconds"

/** How often other servers are asked for what an origin does not answer, in ms: it could make us ask them for nothing all the time. */
const othersInterval = 5_000

type Received = (typeof Receive)["payloadSchema"]["Type"]

/** The events that were placed. */
const placedOf = ({ outcomes, unplaced }: Placement): ReadonlySet<EventId> =>
  new Set([...outcomes.keys()].filter((id) => !unplaced.has(id)))

export const makeRoomFederation = Effect.fnUntraced(function* (writer: RoomWriter) {
  const { roomId, serverName } = writer
  const waitingEvents = yield* makeWaitingEvents(writer)
  const intake = yield* makeRoomIntake(writer)
  const { gaps, graph, loadOurs, notFound, intakeLock, placeAll, unhandled } = intake
  const outside = yield* makeOutsideMemberships(writer, intake)
  const handshakes = yield* makeOutgoingHandshakes(writer)
  const leaves = yield* makeOutgoingLeaves(writer, intake, outside, handshakes)
  const joins = yield* makeOutgoingJoins(writer, intake, outside, handshakes, leaves)
  const knocks = yield* makeOutgoingKnocks(writer, intake, outside, handshakes)
  const invites = yield* makeOutgoingInvites(writer, intake)
  const history = yield* makeRoomHistory(writer, intake)
  const restricted = yield* makeRestrictedJoins
  const policies = yield* makeRoomPolicies
  const states = yield* makeStateForServers(writer, intake)
  const memberships = makeIncomingMemberships(writer, intake, { invites, policies, restricted, states })

  // On Receive

  /** Whether the origin, or one of its users who sent an event, could be in the room by now: we may have missed the join. */
  const mayKnow = (room: RoomState, origin: ServerName, events: ReadonlyArray<Event>): boolean =>
    room.servers.has(origin) ||
    events.some((event) => event.origin === origin && isVisibleTo(room, event.sender, "knock"))

  let othersAskedAt = Number.NEGATIVE_INFINITY

  /** The gap before events. If their origin does not answer, the server with the most members in the room is asked. */
  const closeGap = Effect.fnUntraced(function* (
    room: RoomState,
    generation: number,
    origin: ServerName,
    events: ReadonlyArray<Event>
  ) {
    const closed = yield* gaps.close(room, origin, events, { generation })
    const now = yield* monotonicMillis
    if (!closed.isOpen || !closed.hasFailed || now < othersAskedAt + othersInterval) return closed
    othersAskedAt = now
    const others = [...room.servers].filter(([server]) => server !== origin && server !== serverName)
    const [other] = others.toSorted(([, a], [, b]) => b - a)
    const byOther = other === undefined ? closed : yield* gaps.close(room, other[0], events, { isSender: false })
    return byOther.isOpen ? closed : byOther
  })

  /** Places events that waited for others, of the servers that the room admits. A fault of one does not concern who sent the others. */
  const placeWaiting = (room: RoomState, waiting: ReadonlyArray<WaitingEvent>) => {
    const admitted = waiting.filter(({ origin }) => admits(room.lookup, origin))
    const events = topologicalOrder(admitted.map(({ event }) => event))
    return Effect.catchCause(placeAll(room, { ...closedGap, events }), (cause) => {
      if (mayPass(cause)) return Effect.failCause(cause)
      const logged = Effect.logError(`Events in ${roomId} that waited for others cannot be handled`, cause)
      return Effect.as(logged, undefined)
    })
  }

  /** Whether a user of the server that sent the event removes one of our users from the room by it. */
  const removesOurs = (room: RoomState, origin: ServerName, event: Event): boolean => {
    const { content, sender, state_key: userId, type } = event
    const isRemoval = type === "m.room.member" && (content.membership === "leave" || content.membership === "ban")
    if (!isRemoval || event.origin !== origin || !isUserId(userId) || sender === userId) return false
    return serverNameOf(userId) === serverName && room.membershipOf(userId) === "join"
  }

  /**
   * The removals among unplaced events that are judged without the events before them. A server that has removed all of our users
   * considers us outside the room: it refuses to give what precedes the removals, and no later event comes. Other removals wait first.
   */
  const lastRemovals = (
    room: RoomState,
    { origin, isLate }: Received,
    { hasFailed, hasRefused }: ClosedGap,
    events: Iterable<Event>
  ) => {
    const isOutside = !hasFailed && (hasRefused || room.servers.get(serverName) === 1)
    return isOutside || isLate === true ? [...events].filter((event) => removesOurs(room, origin, event)) : []
  }

  /** The removal of one of our users, to be judged by the current state. */
  const afterCurrent = (room: RoomState, removal: Event): ClosedGap => {
    const state = [...room.current.values()].map(({ event }) => event)
    return { ...closedGap, events: [removal], states: new Map([[removal.event_id, { state, authChain: [] }]]) }
  }

  /** Places events, and then those that waited for them. Events that cannot be placed wait for what they follow. */
  const placeWithFollowers = Effect.fnUntraced(function* (room: RoomState, received: Received, gap: ClosedGap) {
    const { caution, origin } = received
    const { outcomes, unplaced } = yield* placeAll(room, gap, caution)
    for (const removal of lastRemovals(room, received, gap, unplaced.values())) {
      const removed = yield* placeAll(room, afterCurrent(room, removal), caution)
      for (const [id, outcome] of removed.outcomes) outcomes.set(id, outcome)
      if (!removed.unplaced.has(removal.event_id)) unplaced.delete(removal.event_id)
    }
    yield* waitingEvents.keep([...unplaced.values()].map((event) => ({ event, origin })))
    let placed = placedOf({ outcomes, unplaced })
    yield* waitingEvents.remove(placed)
    while (placed.size > 0) {
      const followers = yield* waitingEvents.after(placed)
      if (followers.length === 0) break
      const next = yield* placeWaiting(room, followers)
      placed = next === undefined ? new Set() : placedOf(next)
      const waiting = followers.map(({ event }) => event.event_id).filter((id) => next?.unplaced.has(id) !== true)
      yield* waitingEvents.remove(new Set(waiting))
    }
    return outcomes
  })

  /** Missing events are fetched before the room's lock is taken, so that a slow server delays only itself. */
  const receive = (received: Received): Effect.Effect<ReadonlyArray<Outcome>, Failure> =>
    Effect.gen(function* () {
      const { events, origin } = received
      // A join of ours may be under way: the other servers send as soon as they know of it.
      yield* Effect.timeoutOption(joins.installed, longestJoinWait)
      const { generation, now } = yield* intakeLock.withPermits(1)(
        Effect.map(loadOurs, (room) => ({ now: room, generation: room.generation }))
      )
      if (!mayKnow(now, origin, events)) return yield* notFound
      if (!admits(now.lookup, origin)) return events.map(({ event_id }) => ({ event_id, error: keptOut(origin) }))
      const handled = events.filter((event) => !unhandled.has(event.event_id))
      const closed = yield* closeGap(now, generation, origin, handled)
      const gap = { ...closed, events: yield* policies.recommendedAll(now, closed.events) }
      const outcomes = yield* intakeLock.withPermits(1)(
        Effect.flatMap(loadOurs, (room) => placeWithFollowers(room, received, gap))
      )
      return events.map(({ event_id }) => {
        const error = unhandled.has(event_id) ? "The PDU cannot be handled" : "circular"
        return outcomes.get(event_id) ?? { event_id, error }
      })
    })

  return {
    graph,
    policies,
    restricted,
    receive,
    getState: states.getState,
    requireServer: states.requireServer,
    ...memberships,
    ...outside,
    joinRemotely: joins.joinRemotely,
    leaveRemotely: leaves.leaveRemotely,
    ...knocks,
    ...invites,
    ...history
  }
})
