/**
 * A room that several servers share, as its actor sees it: events and requests of other servers. Requests of other servers
 * run one after the other; events of our own users are handled between them. Requests of our users to other servers are in
 * `RoomHandshakes`, `OutgoingInvites` and `RoomHistory`.
 *
 * Source: docs/federation.md, "Receiving a PDU" and "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, isUserId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  BadRequest,
  Forbidden,
  IncompatibleRoomVersion,
  InvalidParam,
  isMatrixError,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { AuthChainStore } from "@greenroom/store/AuthChainStore"
import { EventStatus } from "@greenroom/store/EventLog"
import { type Allowance, CurrentAllowance } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import type { StateRef } from "@greenroom/store/StateStore"
import { Clock, Effect, Result } from "effect"
import { sliced } from "../../runtime/Slices.ts"
import type { MembershipHandshake, RemoteState } from "../RemoteRooms.ts"
import type { Caution, Outcome, TakenMembership } from "../RoomProtocol.ts"
import { admits, keptOut, requireAdmitted } from "../ServerAcl.ts"
import { shownState } from "../ShownState.ts"
import { makeOutgoingInvites } from "./OutgoingInvites.ts"
import { makeOutsideMemberships } from "./OutsideMemberships.ts"
import { makeRestrictedJoins } from "./RestrictedJoins.ts"
import { makeRoomHandshakes } from "./RoomHandshakes.ts"
import { makeRoomHistory } from "./RoomHistory.ts"
import { type Failure, makeRoomIntake } from "./RoomIntake.ts"
import { makeRoomPolicies } from "./RoomPolicies.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { sameRef } from "./StateBranches.ts"

/** How long events of other servers wait for a join of ours that is under way. */
const longestJoinWait = "20 seconds"

/** How often other servers are asked for what an origin does not answer, in ms: it could make us ask them for nothing all the time. */
const othersInterval = 5_000

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
interface KnownState {
  readonly ref: StateRef
  readonly state: ReadonlyArray<Event>
}

/** The current state. */
const stateNow = ({ current, ref }: RoomState): KnownState | undefined =>
  ref === undefined ? undefined : { ref, state: [...current.values()].map(({ event }) => event) }

export const makeRoomFederation = Effect.fnUntraced(function* (writer: RoomWriter) {
  const { roomId, serverName, signingKey, states } = writer
  const chains = yield* AuthChainStore
  const intake = yield* makeRoomIntake(writer)
  const { gaps, graph, loadOurs, notFound, intakeLock, placeAll, unhandled } = intake
  const outside = yield* makeOutsideMemberships(writer, intake)
  const handshakes = yield* makeRoomHandshakes(writer, intake, outside)
  const invites = yield* makeOutgoingInvites(writer, intake)
  const history = yield* makeRoomHistory(writer, intake)
  const restricted = yield* makeRestrictedJoins
  const policies = yield* makeRoomPolicies

  // On Receive

  /** Whether the origin, or one of its users who sent an event, could be in the room by now: we may have missed the join. */
  const mayKnow = (room: RoomState, origin: ServerName, events: ReadonlyArray<Event>): boolean =>
    room.servers.has(origin) ||
    events.some((event) => event.origin === origin && isVisibleTo(room, event.sender, "knock"))

  let othersAskedAt = Number.NEGATIVE_INFINITY

  /** The gap before events. If their origin does not answer, the server with the most members in the room is asked. */
  const closeGap = Effect.fnUntraced(function* (room: RoomState, origin: ServerName, events: ReadonlyArray<Event>) {
    const closed = yield* gaps.close(room, origin, events)
    const now = yield* monotonicMillis
    if (!closed.isOpen || !closed.hasFailed || now < othersAskedAt + othersInterval) return closed
    othersAskedAt = now
    const others = [...room.servers].filter(([server]) => server !== origin && server !== serverName)
    const [other] = others.toSorted(([, a], [, b]) => b - a)
    const byOther = other === undefined ? closed : yield* gaps.close(room, other[0], events, false)
    return byOther.isOpen ? closed : byOther
  })

  /** Missing events are fetched before the room's lock is taken, so that a slow server delays only itself. */
  const receive = (
    origin: ServerName,
    events: ReadonlyArray<Event>,
    caution: Caution | undefined
  ): Effect.Effect<ReadonlyArray<Outcome>, Failure> =>
    Effect.gen(function* () {
      // A join of ours may be under way: the other servers send as soon as they know of it.
      yield* Effect.timeoutOption(handshakes.settled, longestJoinWait)
      const now = yield* intakeLock.withPermits(1)(loadOurs)
      if (!mayKnow(now, origin, events)) return yield* notFound
      if (!admits(now.lookup, origin)) return events.map(({ event_id }) => ({ event_id, error: keptOut(origin) }))
      const handled = events.filter((event) => !unhandled.has(event.event_id))
      const closed = yield* closeGap(now, origin, handled)
      const gap = { ...closed, events: yield* policies.recommendedAll(now, closed.events) }
      const outcomes = yield* intakeLock.withPermits(1)(
        Effect.flatMap(loadOurs, (room) => placeAll(room, gap, caution))
      )
      return events.map(({ event_id }) => {
        const error = unhandled.has(event_id) ? "The PDU cannot be handled" : "circular"
        return outcomes.get(event_id) ?? { event_id, error }
      })
    })

  // On MakeMembership and SendMembership: other servers' users come and go

  const isVisibleTo = (room: RoomState, userId: UserId, handshake: MembershipHandshake): boolean => {
    const membership = room.membershipOf(userId)
    const rule = room.lookup("m.room.join_rules", "")?.content.join_rule
    const isOpen =
      rule === "public" ||
      (handshake === "knock" && room.version.knockRules.has(String(rule))) ||
      (handshake === "join" && room.version.restrictedRules.has(String(rule)))
    const mayJoin = room.lookup("m.room.join_rules", "")?.content.may_join
    const isListed = Array.isArray(mayJoin) && mayJoin.includes(userId)
    const isIn = membership === "join" || membership === "invite" || (membership === "knock" && handshake === "leave")
    return isOpen || isListed || isIn || room.servers.has(serverNameOf(userId))
  }

  /** A room that is closed to the user does not exist in the draft's dialect; today's answers M_FORBIDDEN. */
  const requireVisible = (
    room: RoomState,
    userId: UserId,
    handshake: MembershipHandshake
  ): Effect.Effect<void, MatrixError> => {
    if (isVisibleTo(room, userId, handshake)) return Effect.void
    return isDraft(room.version)
      ? notFound
      : new Forbidden({ error: `${userId} may not ${handshake === "leave" ? "leave" : handshake} here` })
  }

  const requireKnown = (room: RoomState, versions: ReadonlyArray<string> | undefined) =>
    versions === undefined || versions.includes(room.version.id)
      ? Effect.void
      : new IncompatibleRoomVersion({
          error: `The room has version ${room.version.id}, which is not among the versions of the request`,
          room_version: room.version.id
        })

  const makeMembership = Effect.fnUntraced(function* (
    handshake: MembershipHandshake,
    userId: UserId,
    versions: ReadonlyArray<string> | undefined
  ): Effect.fn.Return<{ readonly room_version: string; readonly event: JsonObject }, Failure> {
    yield* invites.invitePlaced(userId)
    const room = yield* loadOurs
    // Without a user of ours in the room this server does not know what became of it. Invitations can be rejected.
    if (handshake !== "leave" && !room.servers.has(serverName)) return yield* notFound
    yield* requireVisible(room, userId, handshake)
    yield* requireAdmitted(room.lookup, serverNameOf(userId))
    yield* requireKnown(room, versions)
    const voucher = handshake === "join" ? yield* restricted.vouch(room, userId) : undefined
    const now = yield* Clock.currentTimeMillis
    const proposal = {
      room_id: roomId,
      type: "m.room.member",
      sender: userId,
      state_key: userId,
      content: {
        membership: handshake,
        ...(voucher === undefined ? {} : { join_authorised_via_users_server: voucher })
      }
    }
    const origin = serverNameOf(userId)
    const { built, state } = yield* graph.build(room, proposal, now, origin, undefined)
    if (Result.isFailure(built)) return yield* new BadRequest({ error: "The membership cannot be made" })
    const refusal = room.version.authorise(built.success, state) ?? room.version.authorise(built.success, room.lookup)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
    return { room_version: room.version.id, event: room.version.toTemplate(built.success) }
  })

  const checkHandshake = (event: Event, origin: ServerName, handshake: MembershipHandshake) =>
    event.type !== "m.room.member" || event.content.membership !== handshake || event.state_key !== event.sender
      ? new InvalidParam({ error: `The PDU is not a ${handshake} of its sender` })
      : event.origin !== origin || serverNameOf(event.sender) !== origin
        ? new Forbidden({ error: `The PDU is not a ${handshake} of a user of ${origin}` })
        : Effect.void

  const placeMembership = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    relayTo: (after: RoomState) => Iterable<ServerName>
  ) {
    const placed = yield* graph.place(room, event, { relayTo })
    if (placed._tag === "Unplaceable") return yield* new BadRequest({ error: placed.reason })
    if (placed._tag === "Placed") yield* placed.durable
    // A repeat of a membership that was refused is refused too: the answer shows the state of the room.
    if (placed.status !== EventStatus.timeline) {
      const rule = placed._tag === "Placed" ? placed.refusal?.rule : undefined
      return yield* new Forbidden({ error: rule ?? "The rules do not allow it" })
    }
  })

  /** A local user that a join names as its authoriser must have been checked here. */
  const requireVouched = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event
  ): Effect.fn.Return<void, MatrixError> {
    const { join_authorised_via_users_server: voucher } = event.content
    if (!isUserId(voucher) || serverNameOf(voucher) !== serverName) return
    yield* restricted.vouch(room, event.sender)
  })

  /**
   * Takes the membership of a user of another server, tells the rest of the room, and gives the state before it. The state
   * is read without holding the room, as much as `allowance` lets through.
   */
  const sendMembership = (
    origin: ServerName,
    handshake: MembershipHandshake,
    event: Event,
    allowance: Allowance
  ): Effect.Effect<TakenMembership, Failure> =>
    Effect.flatMap(takeRecommended(origin, handshake, event), ({ event, known, room }) =>
      handshake === "join"
        ? Effect.map(stateBefore(room, event.event_id, allowance, known), (state) => ({ event, ...state }))
        : Effect.succeed({ event, state: handshake === "knock" ? shownState(room.lookup) : [], authChain: [] })
    )

  /** The policy server of the room may refuse the membership, which then fails. */
  const takeRecommended = (origin: ServerName, handshake: MembershipHandshake, event: Event) =>
    Effect.flatMap(
      Effect.flatMap(loadOurs, (room) => policies.recommended(room, event)),
      (signed) => takeMembership(origin, handshake, signed)
    )

  const takeMembership = (origin: ServerName, handshake: MembershipHandshake, event: Event) =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const room = yield* loadOurs
        yield* checkHandshake(event, origin, handshake)
        yield* requireVisible(room, event.sender, handshake)
        yield* requireAdmitted(room.lookup, origin)
        yield* requireVouched(room, event)
        const known = stateNow(room)
        yield* placeMembership(room, event, (after) => {
          const others = new Set(after.destinations())
          others.delete(origin)
          return others
        })
        return { event, room, known }
      })
    )

  // On InviteJoin

  /** Makes the membership that a user of another server asks for. A user who is already joined gets the ID of the join. */
  const inviteJoin = (event: Event): Effect.Effect<{ readonly event_id: EventId }, Failure> =>
    Effect.andThen(
      invites.invitePlaced(event.sender),
      intakeLock.withPermits(1)(
        Effect.gen(function* () {
          const room = yield* loadOurs
          yield* requireVisible(room, event.sender, "join")
          const present = room.lookup("m.room.member", event.sender)
          if (present?.content.membership === "join") {
            // It may still be queued itself: this commit is behind it.
            yield* graph.settled(room)
            return { event_id: present.event_id }
          }
          const now = yield* Clock.currentTimeMillis
          const key = yield* signingKey
          const { built, state } = yield* graph.build(room, room.version.membershipFor(event), now, serverName, key)
          if (Result.isFailure(built)) return yield* new BadJson({ error: "The m.room.invite_join is too large" })
          const join = built.success
          const refusal = room.version.authorise(join, state) ?? room.version.authorise(join, room.lookup)
          if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
          yield* placeMembership(room, join, (after) => after.destinations())
          return { event_id: join.event_id }
        })
      )
    )

  // On GetState

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

  /** The state before an event with the events that authorise it. A state that is `atHand` is not read. */
  const stateBefore = Effect.fnUntraced(function* (
    room: RoomState,
    at: EventId | undefined,
    allowance: Allowance,
    atHand?: KnownState
  ): Effect.fn.Return<RemoteState, Failure> {
    const ref = at === undefined ? room.ref : (yield* graph.known(room, [at])).get(at)?.before
    if (ref === undefined) return yield* new NotFound({ error: `${at} is not known here` })
    const read = Effect.gen(function* () {
      const state =
        atHand !== undefined && sameRef(ref, atHand.ref)
          ? atHand.state
          : (yield* states.read([{ roomNid: room.roomNid, ref }])).map((entry) => entry.event)
      const behind = yield* chainBehind(room, state)
      return { state, authChain: isDraft(room.version) ? behind : yield* sliced(() => wholeChain(state, behind)) }
    })
    return yield* Effect.catchDefect(Effect.provideService(read, CurrentAllowance, allowance), (defect) =>
      isMatrixError(defect) ? Effect.fail(defect) : Effect.die(defect)
    )
  })

  const getState = (
    origin: ServerName,
    at: EventId | undefined,
    allowance: Allowance
  ): Effect.Effect<RemoteState, Failure> => Effect.flatMap(roomFor(origin), (room) => stateBefore(room, at, allowance))

  /** The room for a server in it that is not kept out. For a server that is not in it the room does not exist. */
  const roomFor = Effect.fnUntraced(function* (origin: ServerName): Effect.fn.Return<RoomState, Failure> {
    const room = yield* loadOurs
    if (!room.servers.has(origin)) return yield* notFound
    yield* requireAdmitted(room.lookup, origin)
    return room
  })

  const requireServer = (origin: ServerName): Effect.Effect<void, Failure> => Effect.asVoid(roomFor(origin))

  return {
    graph,
    policies,
    restricted,
    receive,
    makeMembership,
    sendMembership,
    inviteJoin,
    getState,
    requireServer,
    ...outside,
    ...handshakes,
    ...invites,
    ...history
  }
})
