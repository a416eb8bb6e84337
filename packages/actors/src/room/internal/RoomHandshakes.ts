/**
 * Joins, leaves and knocks of our users in rooms of other servers.
 *
 * Source: docs/federation.md, "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import { type ServerName, serverPartOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { NotFound } from "@greenroom/protocol/MatrixError"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Clock, Effect, Fiber, Latch, Option, Result } from "effect"
import { type MembershipHandshake, RemoteFailure, RemoteRooms, type RemoteState } from "../RemoteRooms.ts"
import type { RoomTransaction } from "../RoomProtocol.ts"
import { readShown } from "../ShownState.ts"
import { type OutsideMemberships, withShown } from "./OutsideMemberships.ts"
import { makeRoomBeginning } from "./RoomBeginning.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { mayPassLater, refusalOf } from "./remoteRefusals.ts"

/** How many servers are tried for a join, one after the other, and how long all of it may take. */
const maxCandidates = 10
const joinLimit = "2 minutes"

export interface LeaveRequest {
  readonly userId: UserId
  readonly servers: ReadonlyArray<ServerName>
  readonly reason?: string
  readonly transaction?: RoomTransaction
}

export const makeRoomHandshakes = Effect.fnUntraced(function* (
  writer: RoomWriter,
  intake: RoomIntake,
  { logOutside, prepare }: OutsideMemberships
) {
  const { load, roomId, rooms, serverName, signingKey, transactions, withNids } = writer
  const { gaps, graph, intakeLock, placeAll } = intake
  const remote = yield* RemoteRooms
  const unfinished = yield* UnfinishedMembershipStore
  const install = makeRoomBeginning(writer, intake)
  const scope = yield* Effect.scope

  /** The server in the room ID may have left long ago: it is tried if no other server is known. */
  const candidatesFrom = (servers: ReadonlyArray<ServerName>): ReadonlyArray<ServerName> => {
    const others = [...new Set(servers)].filter((entry) => entry !== serverName)
    if (others.length > 0) return others.slice(0, maxCandidates)
    const maker = serverPartOf(roomId)
    return maker === undefined || maker === serverName ? [] : [maker]
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
        return next === undefined ? Effect.fail(refusalOf(roomId, failure as RemoteFailure)) : tryFrom(next, others)
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
    // Another server may tell it otherwise.
    if (version === undefined) {
      return yield* new RemoteFailure({
        destination: server,
        reason: `The room has version ${template.room_version}, which is unknown here`,
        errcode: "M_INCOMPATIBLE_ROOM_VERSION",
        roomVersion: template.room_version
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
      const reason = `${server} proposes a membership that was not asked for`
      return yield* new RemoteFailure({ destination: server, reason, errcode: "M_BAD_JSON" })
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
    const sent = Effect.tapError(remote.sendJoin(server, version, event, yield* earlierMembers), ({ status }) =>
      Effect.sync(() => {
        isRefused = status !== undefined && status < 500
      })
    )
    yield* settling(
      Effect.flatMap(sent, (answer) =>
        Effect.uninterruptible(intakeLock.withPermits(1)(takeJoin(server, version, answer.event ?? event, answer)))
      )
    ).pipe(
      // A server that has not refused the join may have accepted it: a proxy before it may have given up first.
      Effect.onError((cause) =>
        isRefused
          ? unfinished.remove(roomId, userId)
          : Effect.andThen(
              Effect.logWarning(
                `The join of ${userId} to ${roomId} through ${server} failed, and is undone by a leave`,
                cause
              ),
              announceLeave(userId, [server], {})
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
    // A local user may have joined during the handshake; then the join is an event like any other.
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

  /** The leave of each user that is being sent. A later one of the same user replaces it. */
  const leaving = new Map<UserId, JsonObject>()

  /**
   * Notifies one of the servers that our user is not in the room, in the background. If none can be reached, `UnfinishedMemberships`
   * tries again later. A server that has no such membership needs none to be taken back.
   */
  const announceLeave = (
    userId: UserId,
    servers: ReadonlyArray<ServerName>,
    content: JsonObject
  ): Effect.Effect<void> =>
    Effect.gen(function* () {
      yield* unfinished.put({ roomId, userId, membership: "leave", servers, content })
      leaving.set(userId, content)
      const isLatest = () => leaving.get(userId) === content
      yield* Effect.flatMap(isBack(userId), (back) => (back ? Effect.void : sendLeave(userId, servers, content))).pipe(
        Effect.catchIf(
          (error) => !mayPassLater(error),
          () => Effect.void
        ),
        Effect.andThen(Effect.suspend(() => (isLatest() ? unfinished.remove(roomId, userId) : Effect.void))),
        Effect.catchCause((cause) => Effect.logDebug(`No server of ${roomId} has taken the leave of ${userId}`, cause)),
        Effect.ensuring(Effect.sync(() => isLatest() && leaving.delete(userId))),
        Effect.interruptible,
        Effect.forkIn(scope)
      )
    })

  /**
   * Leaves a room that this server is not in: an invitation is rejected, a knock taken back. The user's membership ends here
   * at once, whatever other servers answer: the leave is sent to them afterwards.
   */
  const leaveRemotely = ({ reason, servers, transaction, userId }: LeaveRequest): Effect.Effect<void, Failure> =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const known = yield* rooms.membership(userId, roomId)
        const remembered = yield* unfinished.find(roomId, userId)
        const through = [...new Set([...(remembered?.servers ?? []), ...servers])]
        const content = reason === undefined ? {} : { reason }
        if (Option.isNone(known) || known.value.membership === "leave") {
          return leaving.has(userId) ? undefined : yield* announceLeave(userId, through, content)
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
        const answer = { event_id: event.event_id }
        const answers = transaction === undefined ? [] : [transactions.row(transaction, roomId, answer)]
        yield* yield* withNids(1, () => logOutside(room, event, userId, answers))
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
          const { events, fault } = yield* readShown(version, roomId, shown, (pdus) =>
            remote.verify(version, pdus, server)
          )
          if (fault !== undefined) {
            yield* Effect.logWarning(`${server} answered a knock on ${roomId} with a faulty knock_room_state: ${fault}`)
          }
          return { event: withShown(event, events), version }
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

  return { joinRemotely, knockRemotely, leaveRemotely, settled: settled.await }
})
