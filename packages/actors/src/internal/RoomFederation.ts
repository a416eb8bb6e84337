/**
 * A room that several servers share, as its actor sees it: what other servers send, what they ask for, and what our
 * users need of them. Requests of other servers run one after the other; our own users' events go on between them.
 *
 * Source: `federation`, "What happens to a PDU that arrives" and "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, BadRequest, Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { topologicalOrder } from "@greenroom/room/EventGraph"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { type CommitFailed, EventStatus, type StaleWriter, type StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import type { StateId } from "@greenroom/store/StateStore"
import { beginning, type StreamPosition } from "@greenroom/store/StreamToken"
import { Clock, Effect, Result, Semaphore } from "effect"
import { type MembershipHandshake, RemoteFailure, RemoteRooms, type RemoteState } from "../federation/RemoteRooms.ts"
import { type ClosedGap, makeRoomGaps } from "./RoomGaps.ts"
import { type IdMap, makeRoomGraph, type Placed } from "./RoomGraph.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** Among how many of the oldest events those are looked for where our history ends, and how many are asked about. */
const oldestEvents = 100
const maxEnds = 20
/** How many servers are tried for a join, one after the other. */
const maxCandidates = 10

/** After everything. */
const theEnd: StreamPosition = { xid: Number.MAX_SAFE_INTEGER, nid: Number.MAX_SAFE_INTEGER }

type Failure = MatrixError | StaleWriter | CommitFailed

/** What became of one event of a transaction. */
export interface Outcome {
  readonly event_id: EventId
  readonly error?: string
}

export const makeRoomFederation = Effect.fnUntraced(function* (writer: RoomWriter) {
  const { key, load, log, nextChain, nextNid, roomId, rooms, serverName, states, withNids } = writer
  const remote = yield* RemoteRooms
  const events = yield* EventStore
  const graph = yield* makeRoomGraph(writer)
  const gaps = yield* makeRoomGaps(graph)
  const one = yield* Semaphore.make(1)

  const notFound = new NotFound({ error: `There is no room ${roomId}` })
  const loadOurs = Effect.flatMap(load, (room) => (room.isOurs ? Effect.succeed(room) : notFound))

  // Outliers: events that are known, but have no place in the graph

  /** Stores events that authorise others, each of them by its own auth events. */
  const storeOutliers = Effect.fnUntraced(function* (room: RoomState, given: Iterable<Event>) {
    const byId = new Map(Array.from(given, (event) => [event.event_id, event]))
    const found = yield* graph.known(room, [
      ...byId.keys(),
      ...[...byId.values()].flatMap((event) => event.auth_events)
    ])
    const fresh = topologicalOrder([...byId.values()].filter((event) => !found.has(event.event_id)))
    const authorised = fresh.filter((event) => {
      const authEvents = event.auth_events.flatMap((id) => found.get(id) ?? [])
      const isWhole = authEvents.length === event.auth_events.length
      const bad =
        !isWhole ||
        authEvents.some((each) => each.status === EventStatus.rejected) ||
        room.version.authoriseByAuthEvents(
          event,
          authEvents.map((each) => each.event)
        ) !== undefined
      if (!bad) found.set(event.event_id, outlier(event, Number.NaN))
      return !bad
    })
    if (authorised.length > 0) {
      const durable = yield* withNids(authorised.length, () => {
        const step = room.beginStep()
        for (const event of authorised) {
          const known = outlier(event, nextNid())
          found.set(event.event_id, known)
          room.log(step, known)
        }
        return log.append(room.commit(step))
      })
      yield* durable
    }
    return found
  })

  const storeState = Effect.fnUntraced(function* (room: RoomState, { authChain, state }: RemoteState) {
    const known = yield* storeOutliers(room, [...authChain, ...state])
    return idMap(state, known)
  })

  // On Receive

  const reasonOf = (placed: Placed): string | undefined => {
    if (placed._tag === "Unplaceable") return placed.reason
    const isRefused = placed.status === EventStatus.rejected || placed.status === EventStatus.softFailed
    if (!isRefused) return undefined
    return placed._tag === "Placed" ? placed.refusal?.rule : "It was refused before"
  }

  const describe = (event: Event, placed: Placed): Outcome => {
    const error = reasonOf(placed)
    return error === undefined ? { event_id: event.event_id } : { event_id: event.event_id, error }
  }

  /** Numbers that rise from event to event and stand before all that there is. */
  const historyNids = Effect.fnUntraced(function* (events: ReadonlyArray<Event>) {
    if (events.length === 0) return new Map<EventId, number>()
    return yield* withNids(
      events.length,
      () => new Map(events.toReversed().map((event): [EventId, number] => [event.event_id, -nextNid()]))
    )
  })

  const placeAll = Effect.fnUntraced(function* (room: RoomState, gap: ClosedGap) {
    yield* storeOutliers(room, gap.authEvents)
    const given = new Map<EventId, IdMap>()
    for (const [id, state] of gap.states) given.set(id, yield* storeState(room, state))
    const nids = yield* historyNids(gap.events.filter((event) => gap.history.has(event.event_id)))
    const outcomes = new Map<EventId, Outcome>()
    let waiting: Array<Effect.Effect<void, StaleWriter | CommitFailed>> = []
    for (const event of gap.events) {
      const [state, historyNid] = [given.get(event.event_id), nids.get(event.event_id)]
      const placed = yield* graph.place(room, event, {
        ...(state === undefined ? {} : { given: state }),
        ...(historyNid === undefined ? {} : { historyNid })
      })
      if (placed._tag === "Placed") waiting.push(placed.durable)
      if (waiting.length >= 50) {
        yield* Effect.all(waiting, { discard: true })
        waiting = []
      }
      outcomes.set(event.event_id, describe(event, placed))
    }
    yield* Effect.all(waiting, { discard: true })
    return outcomes
  })

  /** Whether the origin is in the room, or one of its users who speak could be by now: we may not have heard of it yet. */
  const mayKnow = (room: RoomState, origin: ServerName, events: ReadonlyArray<Event>): boolean =>
    room.servers.has(origin) ||
    events.some((event) => event.origin === origin && isVisibleTo(room, event.sender, "knock"))

  /** What is missing is fetched before the room is held, so that a slow server holds up nobody else. */
  const receive = (origin: ServerName, events: ReadonlyArray<Event>): Effect.Effect<ReadonlyArray<Outcome>, Failure> =>
    Effect.gen(function* () {
      // A join of ours may be under way: the other servers send as soon as they know of it.
      const now = yield* one.withPermits(1)(loadOurs)
      if (!mayKnow(now, origin, events)) return yield* notFound
      const gap = yield* gaps.close(now, origin, events)
      const outcomes = yield* one.withPermits(1)(Effect.flatMap(loadOurs, (room) => placeAll(room, gap)))
      return events.map((event) => outcomes.get(event.event_id) ?? { event_id: event.event_id, error: "circular" })
    })

  // On MakeMembership and SendMembership: other servers' users come and go

  const isVisibleTo = (room: RoomState, userId: UserId, handshake: MembershipHandshake): boolean => {
    const membership = room.membershipOf(userId)
    const rule = room.lookup("m.room.join_rules", "")?.content.join_rule
    const isOpen = rule === "public" || (handshake === "knock" && rule === "knock")
    const mayJoin = room.lookup("m.room.join_rules", "")?.content.may_join
    const isListed = Array.isArray(mayJoin) && mayJoin.includes(userId)
    const isIn = membership === "join" || membership === "invite" || (membership === "knock" && handshake === "leave")
    return isOpen || isListed || isIn || room.servers.has(serverNameOf(userId))
  }

  const requireVisible = (room: RoomState, userId: UserId, handshake: MembershipHandshake) =>
    isVisibleTo(room, userId, handshake) ? Effect.void : notFound

  const makeMembership = Effect.fnUntraced(function* (handshake: MembershipHandshake, userId: UserId) {
    const room = yield* loadOurs
    yield* requireVisible(room, userId, handshake)
    const now = yield* Clock.currentTimeMillis
    const proposal = {
      room_id: roomId,
      type: "m.room.member",
      sender: userId,
      state_key: userId,
      content: { membership: handshake }
    }
    const origin = serverNameOf(userId)
    const place = { prevEvents: room.extremities, state: room.lookup, now }
    const built = room.version.tryBuild(proposal, place, origin, undefined)
    if (Result.isFailure(built)) return yield* new BadRequest({ error: "The membership cannot be made" })
    const refusal = room.version.authorise(built.success, room.lookup)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
    return { room_version: room.version.id, event: room.version.toTemplate(built.success) }
  })

  const checkHandshake = (event: Event, origin: ServerName, handshake: MembershipHandshake) =>
    event.type === "m.room.member" &&
    event.content.membership === handshake &&
    event.state_key === event.sender &&
    event.origin === origin &&
    serverNameOf(event.sender) === origin
      ? Effect.void
      : new BadJson({ error: `The PDU is not a ${handshake} of a user of ${origin}` })

  const placeMembership = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    relayTo: (after: RoomState) => Iterable<ServerName>
  ) {
    const placed = yield* graph.place(room, event, { relayTo })
    if (placed._tag === "Unplaceable") return yield* new BadRequest({ error: placed.reason })
    if (placed._tag === "Known") return
    yield* placed.durable
    if (placed.status !== EventStatus.timeline) {
      return yield* new Forbidden({ error: placed.refusal?.rule ?? "The rules do not allow it" })
    }
  })

  /** Takes the membership of a user of another server, tells the rest of the room, and gives the state before it. */
  const sendMembership = (
    origin: ServerName,
    handshake: MembershipHandshake,
    event: Event
  ): Effect.Effect<RemoteState, Failure> =>
    one.withPermits(1)(
      Effect.gen(function* () {
        const room = yield* loadOurs
        yield* checkHandshake(event, origin, handshake)
        yield* requireVisible(room, event.sender, handshake)
        yield* placeMembership(room, event, (after) => {
          const others = after.destinations(event, new Set())
          others.delete(origin)
          return others
        })
        return handshake === "join" ? yield* stateBefore(room, event.event_id) : { state: [], authChain: [] }
      })
    )

  // On InviteJoin

  /** Makes the membership that a user of another server asks for. Who is joined already is told by which event. */
  const inviteJoin = (event: Event): Effect.Effect<{ readonly event_id: EventId }, Failure> =>
    one.withPermits(1)(
      Effect.gen(function* () {
        const room = yield* loadOurs
        yield* requireVisible(room, event.sender, "join")
        const present = room.lookup("m.room.member", event.sender)
        if (present?.content.membership === "join") {
          // It may still be in line itself: this is behind it.
          yield* log.append(room.commit(room.beginStep()))
          return { event_id: present.event_id }
        }
        const now = yield* Clock.currentTimeMillis
        const built = room.propose(room.version.membershipFor(event), now, key)
        if (Result.isFailure(built)) return yield* new BadJson({ error: "The m.room.invite_join is too large" })
        const join = built.success
        const refusal = room.version.authorise(join, room.lookup)
        if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
        yield* placeMembership(room, join, (after) => after.destinations(join, new Set()))
        return { event_id: join.event_id }
      })
    )

  // On GetState

  /** The state before an event with the events that authorise it. */
  const stateBefore = Effect.fnUntraced(function* (room: RoomState, at: EventId | undefined) {
    const ref = at === undefined ? room.ref : (yield* graph.known(room, [at])).get(at)?.before
    if (ref === undefined) return yield* new NotFound({ error: `${at} is not known here` })
    const entries = yield* states.read([{ roomNid: room.roomNid, ref }])
    const chain = new Map(entries.map(({ event }) => [event.event_id, event]))
    const state = [...chain.values()]
    let wanted = state.flatMap((event) => event.auth_events)
    while (wanted.length > 0) {
      const found = yield* graph.known(
        room,
        wanted.filter((id) => !chain.has(id))
      )
      wanted = []
      for (const [id, { event }] of found) {
        if (chain.has(id)) continue
        chain.set(id, event)
        wanted.push(...event.auth_events)
      }
    }
    for (const { event_id } of state) chain.delete(event_id)
    return { state, authChain: [...chain.values()] }
  })

  const getState = (origin: ServerName, at: EventId | undefined): Effect.Effect<RemoteState, Failure> =>
    Effect.gen(function* () {
      const room = yield* requireServer(origin)
      return yield* stateBefore(room, at)
    })

  /** The room, if the server takes part in it: for everybody else it does not exist. */
  const requireServer = (origin: ServerName) =>
    Effect.flatMap(loadOurs, (room) => (room.servers.has(origin) ? Effect.succeed(room) : notFound))

  // On ReceiveInvite: one of our users is invited

  const receiveInvite = (origin: ServerName, event: Event, versionId: string): Effect.Effect<Event, Failure> =>
    one.withPermits(1)(
      Effect.gen(function* () {
        const userId = event.state_key as UserId
        const version = roomVersion(versionId)
        if (
          version === undefined ||
          event.type !== "m.room.member" ||
          event.content.membership !== "invite" ||
          event.origin !== origin ||
          event.room_id !== roomId
        ) {
          return yield* new BadJson({ error: `The PDU is not an invite by a user of ${origin}` })
        }
        const signed = version.sign(event, key)
        yield* rooms.prepare(roomId, versionId, "private")
        const room = yield* load
        // In a room that we are in, the invite comes as an event like any other.
        if (room.isOurs) return signed
        if ((yield* graph.known(room, [event.event_id])).has(event.event_id)) return signed
        if (room.membershipOf(userId) === "ban") return yield* new Forbidden({ error: `${userId} is banned` })
        yield* yield* withNids(1, () => logOutside(room, signed, userId))
        return signed
      })
    )

  /** A membership of one of our users in a room that this server does not take part in. */
  const logOutside = (room: RoomState, event: Event, userId: UserId) => {
    const step = room.beginStep()
    const nid = nextNid()
    room.log(step, { event, nid, status: EventStatus.timeline, before: undefined, after: undefined })
    step.memberships.push({
      userId,
      membership: String(event.content.membership),
      sender: event.sender,
      eventNid: nid,
      causedBy: nid,
      local: true
    })
    return log.append(room.commit(step))
  }

  // On JoinRemotely, LeaveRemotely and KnockRemotely: our users come and go

  const candidatesFrom = (servers: ReadonlyArray<ServerName>) =>
    [...new Set([...servers, serverNameOf(roomId)])].filter((each) => each !== serverName).slice(0, maxCandidates)

  const refusalOf = (failure: RemoteFailure): MatrixError =>
    failure.errcode === "M_FORBIDDEN"
      ? new Forbidden({ error: failure.reason })
      : new NotFound({ error: `${roomId} cannot be reached: ${failure.reason}` })

  /** Tries servers in turn; what the last of them said is the answer if none helped. */
  const firstOf = <A>(
    servers: ReadonlyArray<ServerName>,
    attempt: (server: ServerName) => Effect.Effect<A, RemoteFailure | Failure>
  ): Effect.Effect<A, Failure> => {
    const [server, ...rest] = candidatesFrom(servers)
    if (server === undefined) return Effect.fail(new NotFound({ error: `There is no room ${roomId}` }))
    const tryFrom = (candidate: ServerName, left: ReadonlyArray<ServerName>): Effect.Effect<A, Failure> =>
      Effect.catchTag(attempt(candidate), "RemoteFailure", (failure) => {
        const [next, ...others] = left
        return next === undefined ? Effect.fail(refusalOf(failure as RemoteFailure)) : tryFrom(next, others)
      }) as Effect.Effect<A, Failure>
    return tryFrom(server, rest)
  }

  /** The membership that another server proposes, completed and signed by us. */
  const complete = Effect.fnUntraced(function* (
    server: ServerName,
    handshake: MembershipHandshake,
    userId: UserId,
    content: JsonObject
  ) {
    const template = yield* remote.makeMembership(server, handshake, roomId, userId)
    const version = roomVersion(template.room_version)
    if (version === undefined) {
      return yield* new BadRequest({ error: `The room has version ${template.room_version}, which is unknown here` })
    }
    const now = yield* Clock.currentTimeMillis
    const wanted = { ...content, membership: handshake }
    const built = version.complete({ ...template.event, content: wanted }, key, now)
    const isAsked = (event: Event) =>
      event.room_id === roomId &&
      event.type === "m.room.member" &&
      event.sender === userId &&
      event.state_key === userId
    if (Result.isFailure(built) || !isAsked(built.success)) {
      return yield* new BadRequest({ error: `${server} proposes a membership that was not asked for` })
    }
    return { version, event: built.success }
  })

  const joinRemotely = (
    userId: UserId,
    content: JsonObject,
    servers: ReadonlyArray<ServerName>
  ): Effect.Effect<void, Failure> =>
    one.withPermits(1)(
      Effect.suspend(() =>
        firstOf(servers, (server) =>
          Effect.gen(function* () {
            const { event, version } = yield* complete(server, "join", userId, content)
            const answer = yield* remote.sendJoin(server, version, event)
            yield* rooms.prepare(roomId, version.id, visibilityOf(answer.state))
            const room = yield* load
            // Somebody of ours may have joined meanwhile; then the join is an event like any other.
            if (room.isOurs) return void (yield* placeAll(room, yield* gaps.close(room, server, [event])))
            yield* Effect.catchTag(install(room, event, answer), "M_FORBIDDEN", ({ error }) =>
              Effect.fail(new RemoteFailure({ destination: server, reason: error, errcode: "M_FORBIDDEN" }))
            )
          })
        )
      )
    )

  const visibilityOf = (state: ReadonlyArray<Event>): "public" | "private" =>
    state.some((event) => event.type === "m.room.config" && event.content.visibility === "public")
      ? "public"
      : "private"

  /** The room begins here with the state that another server vouches for, each event of it checked. */
  const install = Effect.fnUntraced(function* (room: RoomState, join: Event, { authChain, state }: RemoteState) {
    const known = yield* storeOutliers(room, [...authChain, ...state])
    const map = idMap(state, known)
    const events = new Map([...map].map(([each, { id }]) => [each, known.get(id)!.event]))
    const create = events.get(stateKeyOf("m.room.create", ""))
    const refusal =
      create === undefined || create.room_id !== roomId
        ? { rule: "The state has no m.room.create of this room" }
        : room.version.authorise(join, (type, stateKey) => events.get(stateKeyOf(type, stateKey)))
    if (refusal !== undefined) return yield* new Forbidden({ error: `The join is not allowed: ${refusal.rule}` })
    const durable = yield* withNids(1, () => {
      const step = room.beginStep()
      const nid = nextNid()
      const before = room.beginChain(step, nextChain(), new Map([...map].map(([each, { nid: of }]) => [each, of])))
      room.ref = before
      const joinKey = stateKeyOf(join.type, join.state_key!)
      const entryOf = (each: string) => ({ nid: map.get(each)!.nid, event: events.get(each)! })
      const gone = [...room.current.keys()].filter((each) => !map.has(each) && each !== joinKey)
      room.install(
        step,
        [
          ...gone.map((each) => ({ key: each, entry: undefined })),
          ...[...map.keys()].filter((each) => each !== joinKey).map((each) => ({ key: each, entry: entryOf(each) }))
        ],
        nid
      )
      room.changeCurrent(step, [{ key: joinKey, entry: { nid, event: join } }], nid, nextChain)
      room.log(step, { nid, event: join, status: EventStatus.timeline, before, after: room.ref })
      room.extremities = [{ event_id: join.event_id, depth: join.depth }]
      room.joinedDepth = join.depth
      return log.append(room.commit(step))
    })
    yield* durable
  })

  /** Leaves a room that this server is not in: an invitation is rejected, a knock taken back. */
  const leaveRemotely = (userId: UserId, servers: ReadonlyArray<ServerName>): Effect.Effect<void, Failure> =>
    one.withPermits(1)(
      Effect.gen(function* () {
        const room = yield* load
        const said = yield* Effect.result(
          firstOf(servers, (server) =>
            Effect.gen(function* () {
              const { event, version } = yield* complete(server, "leave", userId, {})
              yield* remote.sendMembership(server, version, "leave", event)
              return event
            })
          )
        )
        if (room.isOurs) return
        // Whatever the others say, nobody stays invited who does not want to be.
        const now = yield* Clock.currentTimeMillis
        const proposal = {
          room_id: roomId,
          type: "m.room.member",
          sender: userId,
          state_key: userId,
          content: { membership: "leave" }
        }
        const event = Result.isSuccess(said)
          ? said.success
          : room.version.build(proposal, { prevEvents: [], state: () => undefined, now }, key)
        yield* yield* withNids(1, () => logOutside(room, event, userId))
      })
    )

  const knockRemotely = (userId: UserId, content: JsonObject, servers: ReadonlyArray<ServerName>) =>
    one.withPermits(1)(
      Effect.suspend(() =>
        firstOf(servers, (server) =>
          Effect.gen(function* () {
            const { event, version } = yield* complete(server, "knock", userId, content)
            yield* remote.sendMembership(server, version, "knock", event)
            yield* rooms.prepare(roomId, version.id, "private")
            const room = yield* load
            if (!room.isOurs) yield* yield* withNids(1, () => logOutside(room, event, userId))
            return { event_id: event.event_id }
          })
        )
      )
    )

  // On InviteRemotely: our user invites somebody of another server, which countersigns

  const inviteRemotely = Effect.fnUntraced(function* (sender: UserId, invited: UserId, content: JsonObject) {
    const room = yield* loadOurs
    const now = yield* Clock.currentTimeMillis
    const proposal = { room_id: roomId, type: "m.room.member", sender, state_key: invited, content }
    const built = room.propose(proposal, now, key)
    if (Result.isFailure(built)) return yield* new BadJson({ error: "The invite is too large" })
    const refusal = room.version.authorise(built.success, room.lookup)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
    const signed = yield* Effect.mapError(
      remote.invite(serverNameOf(invited), room.version, built.success),
      (failure): MatrixError =>
        failure.errcode === "M_FORBIDDEN" || failure.errcode === "M_NOT_FOUND"
          ? new Forbidden({ error: failure.reason })
          : new BadRequest({ error: `${serverNameOf(invited)} cannot be reached: ${failure.reason}` })
    )
    const placed = yield* one.withPermits(1)(
      graph.place(room, signed, { relayTo: (after) => after.destinations(signed, new Set()) })
    )
    if (placed._tag === "Placed") yield* placed.durable
    if (placed._tag !== "Placed" || placed.status !== EventStatus.timeline) {
      return yield* new Forbidden({ error: "The invite is no longer allowed" })
    }
    return { event_id: signed.event_id }
  })

  // On Backfill: history before what we have

  /** Fetches what precedes the oldest events that we have; true if there is more of it now. */
  const backfill = (limit: number): Effect.Effect<boolean, Failure> =>
    Effect.gen(function* () {
      const room = yield* loadOurs
      const servers = [...room.servers.keys()].filter((each) => each !== serverName).slice(0, maxCandidates)
      const ends = yield* endsOfHistory(room)
      for (const from of ends.length > 1 ? [ends, ends.slice(0, 1)] : [ends]) {
        for (const server of servers) {
          const fetched = yield* Effect.option(fetchHistory(room, server, from, limit))
          if (fetched._tag === "None" || fetched.value.events.length === 0) continue
          if (yield* one.withPermits(1)(Effect.flatMap(loadOurs, (now) => storeHistory(now, fetched.value))))
            return true
        }
      }
      return false
    })

  /** The events whose predecessors we do not have, oldest first. */
  const endsOfHistory = Effect.fnUntraced(function* (room: RoomState) {
    const range = { roomNid: room.roomNid, after: beginning, upTo: theEnd }
    const oldest = yield* events.timelines([range], "f", oldestEvents)
    const found = yield* graph.known(
      room,
      oldest.flatMap(({ event }) => event.prev_events)
    )
    return oldest.filter(({ event }) => event.prev_events.some((id) => !isVisible(found.get(id)))).slice(0, maxEnds)
  })

  /** What another server says to precede the events, and what authorises that. */
  const fetchHistory = Effect.fnUntraced(function* (
    room: RoomState,
    server: ServerName,
    ends: ReadonlyArray<StreamedEvent>,
    limit: number
  ) {
    const ids = ends.map(({ event }) => event.event_id)
    const fetched = yield* remote.backfill(server, room.version, roomId, ids, limit)
    const found = yield* graph.known(
      room,
      fetched.flatMap((event) => [event.event_id, ...event.prev_events])
    )
    const leadsTo = connected(ends, fetched)
    const places = new Map<EventId, number>()
    const events: Array<Event> = []
    for (const event of topologicalOrder(fetched)) {
      const end = leadsTo.get(event.event_id)
      if (end === undefined || isVisible(found.get(event.event_id))) continue
      // What follows something that we have stands behind it: just before the event that led to it.
      const isLate = event.prev_events.some((id) => isVisible(found.get(id)) || places.has(id))
      if (isLate) places.set(event.event_id, end.position.xid)
      events.push(event)
    }
    return { events, places, authEvents: yield* gaps.authEventsOf(room, server, events) }
  })

  /** History gets falling numbers, so that it stands before what is there; only what its auth events allow is taken. */
  const storeHistory = Effect.fnUntraced(function* (
    room: RoomState,
    { authEvents, events, places }: Effect.Success<ReturnType<typeof fetchHistory>>
  ) {
    yield* storeOutliers(room, authEvents)
    const found = yield* graph.known(
      room,
      events.flatMap((event) => [event.event_id, ...event.auth_events])
    )
    const allowed = new Map<EventId, KnownEvent>(found)
    const taken = events.filter((event) => isNewHistory(room, event, allowed))
    // They get other numbers: states in line that name them by the old ones are written first.
    yield* log.append(room.commit(room.beginStep()))
    const nids = yield* historyNids(taken)
    const step = room.beginStep()
    for (const event of taken) {
      const id = event.event_id
      const entry = { event, status: EventStatus.backfilled, before: undefined, after: undefined }
      room.log(step, { ...entry, nid: nids.get(id)! }, found.get(id)?.nid, places.get(id))
    }
    yield* log.append(room.commit(step))
    return taken.length > 0
  })

  const isNewHistory = (room: RoomState, event: Event, known: Map<EventId, KnownEvent>): boolean => {
    const own = known.get(event.event_id)
    if (own !== undefined && own.status !== EventStatus.outlier) return false
    const authEvents = event.auth_events.flatMap((id) => known.get(id) ?? [])
    const isAllowed =
      authEvents.length === event.auth_events.length &&
      authEvents.every((each) => each.status !== EventStatus.rejected) &&
      room.version.authoriseByAuthEvents(
        event,
        authEvents.map((each) => each.event)
      ) === undefined
    // History authorises what follows it.
    if (isAllowed) known.set(event.event_id, own ?? outlier(event, Number.NaN))
    return isAllowed
  }

  return {
    receive,
    makeMembership,
    sendMembership,
    inviteJoin,
    getState,
    receiveInvite,
    joinRemotely,
    leaveRemotely,
    knockRemotely,
    inviteRemotely,
    backfill,
    requireServer
  }
})

const isVisible = (known: KnownEvent | undefined): boolean =>
  known?.status === EventStatus.timeline || known?.status === EventStatus.backfilled

/**
 * Those of the events to which the predecessors of what we have lead, and from where: the oldest of the ends. Whatever
 * else is offered is no history.
 */
const connected = (
  ends: ReadonlyArray<StreamedEvent>,
  offered: ReadonlyArray<Event>
): ReadonlyMap<EventId, StreamedEvent> => {
  const byId = new Map(offered.map((event) => [event.event_id, event]))
  const reached = new Map<EventId, StreamedEvent>()
  for (const end of ends) {
    const queue = [end.event]
    for (let event = queue.pop(); event !== undefined; event = queue.pop()) {
      for (const id of event.prev_events) {
        const before = byId.get(id)
        if (before === undefined || reached.has(id)) continue
        reached.set(id, end)
        queue.push(before)
      }
    }
  }
  return reached
}

const outlier = (event: Event, nid: number): KnownEvent => ({
  event,
  nid,
  status: EventStatus.outlier,
  before: undefined,
  after: undefined
})

/** The state that events make, as far as they are known and not rejected. */
const idMap = (state: ReadonlyArray<Event>, known: ReadonlyMap<EventId, KnownEvent>): IdMap => {
  const map = new Map<string, StateId>()
  for (const event of state) {
    const found = known.get(event.event_id)
    if (found === undefined || found.status === EventStatus.rejected || event.state_key === undefined) continue
    map.set(stateKeyOf(event.type, event.state_key), { id: event.event_id, nid: found.nid })
  }
  return map
}
