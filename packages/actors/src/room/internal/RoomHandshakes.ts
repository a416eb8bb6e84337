/**
 * Memberships of our users in rooms of other servers, and invitations of users of other servers: every membership that
 * needs two servers, on the side of our user.
 *
 * Source: docs/federation.md, "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import { type ServerName, serverNameOf, serverPartOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  BadRequest,
  Forbidden,
  IncompatibleRoomVersion,
  InviteBlocked,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { EventStatus } from "@greenroom/store/EventLog"
import { UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Clock, Effect, Fiber, Latch, Option, Result, Schedule } from "effect"
import { type MembershipHandshake, RemoteFailure, RemoteRooms, type RemoteState } from "../RemoteRooms.ts"
import type { RoomTransaction } from "../RoomProtocol.ts"
import { requireAdmitted } from "../ServerAcl.ts"
import { shownState } from "../ShownState.ts"
import { makeRoomBeginning } from "./RoomBeginning.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import { makeRoomPolicies } from "./RoomPolicies.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** How many servers are tried for a join, one after the other, and how long all of it may take. */
const maxCandidates = 10
const joinLimit = "2 minutes"

/** How long a membership of an invited user waits until the invitation is placed. */
const invitePlacedTimeout = "5 seconds"

/** How often a server is notified that a local user is not in a room, until one has accepted it. */
const leaveAttempts = 6

/**
 * The client's error text for a failure: the text of the other server. The reason of a failed connection goes only to the
 * log, because it shows which addresses and ports answer.
 */
const answerOf = ({ errcode, reason }: RemoteFailure): string =>
  errcode === undefined || errcode === "M_UNKNOWN" ? "" : `: ${reason}`

/** The errors by which servers refuse a join, a knock or a leave. */
const forbidding: ReadonlySet<string | undefined> = new Set([
  "M_FORBIDDEN",
  "M_UNABLE_TO_AUTHORISE_JOIN",
  "M_UNABLE_TO_GRANT_JOIN"
])

export interface LeaveRequest {
  readonly userId: UserId
  readonly servers: ReadonlyArray<ServerName>
  readonly reason?: string
}

export const makeRoomHandshakes = Effect.fnUntraced(function* (writer: RoomWriter, intake: RoomIntake) {
  const { forget, load, log, nextNid, roomId, rooms, serverName, signingKey, transactions, withNids } = writer
  const { gaps, graph, loadOurs, intakeLock, placeAll } = intake
  const remote = yield* RemoteRooms
  const unfinished = yield* UnfinishedMembershipStore
  const install = makeRoomBeginning(writer, intake)
  const policies = yield* makeRoomPolicies
  const scope = yield* Effect.scope

  /**
   * The room is known here from now on, with this version: until this server takes part in it, another server's word for
   * the version counts no more than the next one's.
   */
  const prepare = (versionId: string) =>
    Effect.flatMap(rooms.prepare(roomId, versionId, "private"), (isChanged) => (isChanged ? forget : Effect.void))

  // On ReceiveInvite: one of our users is invited

  const receiveInvite = (
    origin: ServerName,
    event: Event,
    versionId: string,
    shown: ReadonlyArray<JsonObject>
  ): Effect.Effect<Event, Failure> =>
    intakeLock.withPermits(1)(
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
        const signed = version.sign(event, yield* signingKey)
        yield* prepare(versionId)
        const room = yield* load
        if (room.isOurs) {
          yield* requireAdmitted(room.lookup, origin)
          // In a room that we are in, the invite comes as an event like any other.
          return signed
        }
        if ((yield* graph.known(room, [event.event_id])).has(event.event_id)) return signed
        // A ban in our state may have been lifted since: a server without members in the room is not sent its events.
        yield* yield* withNids(1, () => logOutside(room, withShown(signed, shown), userId))
        return signed
      })
    )

  // On ReceiveRetraction: an invitation of one of our users is taken back, or their knock is refused

  /**
   * The answer of the inviter's server decides: other grounds of the membership cannot be seen from outside the room.
   * For a knock it is the server that took the knock.
   */
  const receiveRetraction = (event: Event): Effect.Effect<void, Failure> =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const userId = event.state_key as UserId
        const known = yield* rooms.membership(userId, roomId)
        if (Option.isNone(known) || !["invite", "knock"].includes(known.value.membership)) {
          return yield* new NotFound({ error: `${userId} has no invitation to ${roomId}` })
        }
        const isKnock = known.value.membership === "knock"
        const speakers = isKnock ? yield* unfinished.servers(roomId, userId) : [serverNameOf(known.value.sender)]
        if (!speakers.includes(event.origin)) {
          return yield* new Forbidden({ error: `${event.origin} has not invited ${userId}` })
        }
        const room = yield* load
        if (room.isOurs || (yield* graph.known(room, [event.event_id])).has(event.event_id)) return
        yield* yield* withNids(1, () => logOutside(room, event, userId))
        yield* unfinished.remove(roomId, userId)
      })
    )

  const withShown = (event: Event, shown: ReadonlyArray<JsonObject>): Event =>
    shown.length === 0 ? event : { ...event, unsigned: { ...event.unsigned, invite_room_state: shown } }

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
    [...new Set([...servers, serverPartOf(roomId)])]
      .filter((entry): entry is ServerName => entry !== undefined && entry !== serverName)
      .slice(0, maxCandidates)

  const inviteRefusalOf = (destination: ServerName, failure: RemoteFailure): MatrixError => {
    const { errcode, reason } = failure
    if (errcode === "M_INVITE_BLOCKED") return new InviteBlocked({ error: reason })
    return errcode === "M_FORBIDDEN" || errcode === "M_NOT_FOUND"
      ? new Forbidden({ error: reason })
      : new BadRequest({ error: `${destination} cannot take the invite now${answerOf(failure)}` })
  }

  const refusalOf = (failure: RemoteFailure): MatrixError => {
    const { errcode, reason } = failure
    if (forbidding.has(errcode)) return new Forbidden({ error: reason })
    return errcode === "M_INCOMPATIBLE_ROOM_VERSION"
      ? new IncompatibleRoomVersion({ error: reason })
      : new NotFound({ error: `${roomId} cannot be reached now${answerOf(failure)}` })
  }

  /** Tries servers in turn. If all fail, the last one's error is the answer. */
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
      return yield* new IncompatibleRoomVersion({
        error: `The room has version ${template.room_version}, which is unknown here`,
        room_version: template.room_version
      })
    }
    const now = yield* Clock.currentTimeMillis
    const { content: proposed } = template.event
    const voucher = isJsonObject(proposed) ? proposed.join_authorised_via_users_server : undefined
    const wanted = {
      ...content,
      membership: handshake,
      ...(handshake === "join" && typeof voucher === "string" ? { join_authorised_via_users_server: voucher } : {})
    }
    const built = version.complete({ ...template.event, content: wanted }, yield* signingKey, now)
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

  /**
   * Requests to other servers run in a fiber of the actor, without the room's lock: a silent server delays no one else, and
   * a client that disconnects does not interrupt the change.
   */
  const remotely = <A, E>(asking: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.flatMap(Effect.forkIn(Effect.interruptible(asking), scope), Fiber.join)

  /** The joins under way, by user: a second request shares the first one's join. */
  const joins = new Map<UserId, Fiber.Fiber<void, Failure>>()
  /** Open unless a server has been handed a join of ours that is not installed yet. */
  const settled = Latch.makeUnsafe(true)
  let unsettled = 0

  /** Other servers send events as soon as they know of a join: those wait until it is installed. */
  const settling = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      unsettled++
      settled.closeUnsafe()
      return Effect.ensuring(
        effect,
        Effect.sync(() => {
          if (--unsettled === 0) settled.openUnsafe()
        })
      )
    })

  const joinRemotely = (
    userId: UserId,
    content: JsonObject,
    servers: ReadonlyArray<ServerName>
  ): Effect.Effect<void, Failure> =>
    Effect.suspend(() => {
      const current = joins.get(userId)
      if (current !== undefined) return Fiber.join(current)
      const joining = firstOf(servers, (server) => joinThrough(server, userId, content)).pipe(
        Effect.timeoutOrElse({
          duration: joinLimit,
          orElse: () => new NotFound({ error: `${roomId} cannot be joined now: it takes too long` })
        }),
        Effect.ensuring(Effect.sync(() => joins.delete(userId)))
      )
      return Effect.flatMap(Effect.forkIn(Effect.interruptible(joining), scope), (fiber) => {
        joins.set(userId, fiber)
        return Fiber.join(fiber)
      })
    })

  const joinThrough = Effect.fnUntraced(function* (server: ServerName, userId: UserId, content: JsonObject) {
    const { event, version } = yield* complete(server, "join", userId, content)
    yield* unfinished.put({ roomId, userId, membership: "join", servers: [server], content })
    let isRefused = false
    const sent = Effect.tapError(remote.sendJoin(server, version, event, yield* earlierMembers), ({ errcode }) =>
      Effect.sync(() => {
        isRefused = errcode !== undefined
      })
    )
    yield* settling(
      Effect.flatMap(sent, (answer) =>
        Effect.uninterruptible(intakeLock.withPermits(1)(takeJoin(server, version, answer.event ?? event, answer)))
      )
    ).pipe(
      // A failure proves nothing: a server that has not refused the join may have accepted it.
      Effect.onError((cause) =>
        isRefused
          ? unfinished.remove(roomId, userId)
          : Effect.andThen(
              Effect.logWarning(
                `The join of ${userId} to ${roomId} through ${server} failed, and is taken back`,
                cause
              ),
              announceLeave(userId, [server])
            )
      )
    )
    yield* unfinished.remove(roomId, userId)
  })

  /** The state that the room has from an earlier membership: of the members only the new ones are then fetched. */
  const earlierMembers = Effect.map(Effect.option(load), (found) =>
    Option.isSome(found) && found.value.current.size > 0 ? graph.knownBodies(found.value) : undefined
  )

  const takeJoin = Effect.fnUntraced(function* (
    server: ServerName,
    version: RoomVersion,
    event: Event,
    answer: RemoteState
  ) {
    yield* prepare(version.id)
    const room = yield* load
    yield* remote.joinedThrough(server, roomId)
    // Somebody of ours may have joined meanwhile; then the join is an event like any other.
    if (room.isOurs) return void (yield* placeAll(room, yield* gaps.close(room, server, [event])))
    yield* Effect.catchTag(install(room, event, answer), "M_FORBIDDEN", ({ error }) =>
      Effect.fail(new RemoteFailure({ destination: server, reason: error, errcode: "M_FORBIDDEN" }))
    )
  })

  /** Whether the user has come into the room by now, also after a join that is under way. */
  const isBack = Effect.fnUntraced(function* (userId: UserId) {
    const joining = joins.get(userId)
    if (joining !== undefined) yield* Fiber.await(joining)
    const room = yield* Effect.option(load)
    return Option.isSome(room) && room.value.isOurs && room.value.membershipOf(userId) === "join"
  })

  const sendLeave = (
    userId: UserId,
    servers: ReadonlyArray<ServerName>,
    content: JsonObject
  ): Effect.Effect<void, Failure> =>
    firstOf(servers, (server) =>
      Effect.gen(function* () {
        const { event, version } = yield* complete(server, "leave", userId, content)
        yield* remote.sendMembership(server, version, "leave", event)
      })
    )

  /**
   * Tells one of the servers that our user is not in the room, in the background and a few times; if that is in vain, at
   * the next start again. A server that has no such membership needs none to be taken back.
   */
  const announceLeave = (
    userId: UserId,
    servers: ReadonlyArray<ServerName>,
    content: JsonObject = {}
  ): Effect.Effect<void> =>
    Effect.andThen(
      unfinished.put({ roomId, userId, membership: "leave", servers, content }),
      Effect.flatMap(isBack(userId), (back) => (back ? Effect.void : sendLeave(userId, servers, content))).pipe(
        Effect.retry({
          while: ({ _tag }) => _tag === "M_NOT_FOUND",
          schedule: Schedule.exponential("5 seconds"),
          times: leaveAttempts
        }),
        Effect.catchIf(
          ({ _tag }) => _tag !== "M_NOT_FOUND",
          () => Effect.void
        ),
        Effect.andThen(unfinished.remove(roomId, userId)),
        Effect.catchCause((cause) => Effect.logInfo(`No server of ${roomId} has taken the leave of ${userId}`, cause)),
        Effect.forkIn(scope),
        Effect.asVoid
      )
    )

  /**
   * Leaves a room that this server is not in: an invitation is rejected, a knock taken back. The user's membership ends here
   * at once, whatever other servers answer: the leave is sent to them afterwards.
   */
  const leaveRemotely = ({ reason, servers, userId }: LeaveRequest): Effect.Effect<void, Failure> =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const known = yield* rooms.membership(userId, roomId)
        const remembered = yield* unfinished.servers(roomId, userId)
        const through = [...remembered, ...servers]
        const content = reason === undefined ? {} : { reason }
        if (Option.isNone(known) || known.value.membership === "leave") {
          return yield* announceLeave(userId, through, content)
        }
        const room = yield* load
        if (room.isOurs) return yield* unfinished.remove(roomId, userId)
        const now = yield* Clock.currentTimeMillis
        const proposal = {
          room_id: roomId,
          type: "m.room.member",
          sender: userId,
          state_key: userId,
          content: { ...content, membership: "leave" }
        }
        const position = { prevEvents: [], state: () => undefined, now }
        const event = room.version.build(proposal, position, yield* signingKey)
        yield* yield* withNids(1, () => logOutside(room, event, userId))
        yield* announceLeave(userId, through, content)
      })
    )

  const knockRemotely = (userId: UserId, content: JsonObject, servers: ReadonlyArray<ServerName>) =>
    remotely(
      firstOf(servers, (server) =>
        Effect.gen(function* () {
          const { event, version } = yield* complete(server, "knock", userId, content)
          const { shown } = yield* remote.sendMembership(server, version, "knock", event)
          yield* unfinished.put({ roomId, userId, membership: "knock", servers: [server], content: {} })
          return { event: withShown(event, shown), version }
        })
      )
    ).pipe(
      Effect.flatMap(({ event, version }) =>
        intakeLock.withPermits(1)(
          Effect.gen(function* () {
            yield* prepare(version.id)
            const room = yield* load
            if (!room.isOurs) yield* yield* withNids(1, () => logOutside(room, event, userId))
            return { event_id: event.event_id }
          })
        )
      )
    )

  // On InviteRemotely: a local user invites a user of another server, which countersigns

  /** Invitations that the other server may have already, and this one has not placed yet. */
  const inviting = new Map<UserId, Latch.Latch>()

  /** A server may answer its user's invitation before we have placed it: its user's membership waits for that. */
  const invitePlaced = (userId: UserId): Effect.Effect<void> =>
    Effect.suspend(() => {
      const latch = inviting.get(userId)
      return latch === undefined ? Effect.void : Effect.asVoid(Effect.timeoutOption(latch.await, invitePlacedTimeout))
    })

  const inviteRemotely = (
    sender: UserId,
    invited: UserId,
    content: JsonObject,
    transaction: RoomTransaction | undefined
  ) =>
    Effect.suspend(() => {
      const latch = Latch.makeUnsafe(false)
      inviting.set(invited, latch)
      return Effect.ensuring(
        invite(sender, invited, content, transaction),
        Effect.sync(() => {
          if (inviting.get(invited) === latch) inviting.delete(invited)
          latch.openUnsafe()
        })
      )
    })

  const invite = Effect.fnUntraced(function* (
    sender: UserId,
    invited: UserId,
    content: JsonObject,
    transaction: RoomTransaction | undefined
  ) {
    const room = yield* loadOurs
    const now = yield* Clock.currentTimeMillis
    const proposal = { room_id: roomId, type: "m.room.member", sender, state_key: invited, content }
    const { built, state } = yield* graph.build(room, proposal, now, serverName, yield* signingKey)
    if (Result.isFailure(built)) return yield* new BadJson({ error: "The invite is too large" })
    const refusal = room.version.authorise(built.success, state) ?? room.version.authorise(built.success, room.lookup)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
    const invite = yield* policies.recommended(room, built.success)
    const signed = yield* Effect.mapError(
      remote.invite(serverNameOf(invited), room.version, invite, shownState(room.lookup, sender)),
      (failure) => inviteRefusalOf(serverNameOf(invited), failure)
    )
    const answer = { event_id: signed.event_id }
    const placed = yield* intakeLock.withPermits(1)(
      graph.place(room, signed, {
        relayTo: (after) => after.destinations(signed, new Set()),
        answers: transaction === undefined ? undefined : transactions.row(transaction, roomId, answer)
      })
    )
    if (placed._tag === "Placed") yield* placed.durable
    if (placed._tag !== "Placed" || placed.status !== EventStatus.timeline) {
      return yield* new Forbidden({ error: "The invite is no longer allowed" })
    }
    return answer
  })

  return {
    receiveInvite,
    receiveRetraction,
    joinRemotely,
    leaveRemotely,
    knockRemotely,
    inviteRemotely,
    invitePlaced,
    settled: settled.await
  }
})
