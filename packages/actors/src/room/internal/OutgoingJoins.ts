/**
 * Joins of our users to rooms of other servers.
 *
 * Source: docs/federation.md, "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { NotFound } from "@greenroom/protocol/MatrixError"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Effect, Fiber, Latch, Option } from "effect"
import { withAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { RemoteFailure, RemoteRooms, type RemoteState } from "../RemoteRooms.ts"
import type { OutgoingHandshakes } from "./OutgoingHandshakes.ts"
import type { OutgoingLeaves } from "./OutgoingLeaves.ts"
import type { OutsideMemberships } from "./OutsideMemberships.ts"
import { makeRoomBeginning } from "./RoomBeginning.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** How long a join may take, with all servers that are tried, and how many bytes the answers of each may have. */
const joinLimit = "2 minutes"
const joinBytes = 128 * 1024 * 1024

export const makeOutgoingJoins = Effect.fnUntraced(function* (
  writer: RoomWriter,
  intake: RoomIntake,
  { prepare }: OutsideMemberships,
  { complete, firstOf, forkRequest, joins }: OutgoingHandshakes,
  { announceLeave }: OutgoingLeaves
) {
  const { load, loaded, roomId } = writer
  const { gaps, graph, intakeLock, loadOurs, placeAll } = intake
  const remote = yield* RemoteRooms
  const unfinished = yield* UnfinishedMembershipStore
  const install = makeRoomBeginning(writer, intake)

  /** Open unless a server has been handed a join of ours that is not installed yet. */
  const installed = Latch.makeUnsafe(true)
  let installing = 0

  /** Other servers send events as soon as they know of a join: those wait until it is installed. */
  const whileInstalling = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      installing++
      installed.closeUnsafe()
      return Effect.ensuring(
        effect,
        Effect.sync(() => {
          if (--installing === 0) installed.openUnsafe()
        })
      )
    })

  /** Joins through the first server that makes it possible. A second request of a user shares the join that is under way. */
  const joinRemotely = (
    userId: UserId,
    content: JsonObject,
    servers: ReadonlyArray<ServerName>
  ): Effect.Effect<void, Failure> =>
    Effect.suspend(() => {
      const current = joins.get(userId)
      if (current !== undefined) return Fiber.join(current)
      const attempt = (server: ServerName) => withAnswerBudget(joinBytes, userId, joinThrough(server, userId, content))
      const joining = firstOf(servers, attempt).pipe(
        Effect.timeoutOrElse({
          duration: joinLimit,
          orElse: () => new NotFound({ error: `${roomId} cannot be joined now: it takes too long` })
        }),
        Effect.ensuring(Effect.sync(() => joins.delete(userId)))
      )
      return Effect.flatMap(forkRequest(joining), (fiber) => {
        joins.set(userId, fiber)
        return Fiber.join(fiber)
      })
    })

  const joinThrough = Effect.fnUntraced(function* (server: ServerName, userId: UserId, content: JsonObject) {
    const { event, version } = yield* complete(server, "join", userId, content)
    // A client's request has looked for the room, which is in memory if it is here. After a restart all members are fetched again.
    const room = yield* loaded
    yield* unfinished.put({ roomId, userId, membership: "join", servers: [server], content })
    let isRefused = false
    const sent = Effect.tapError(remote.sendJoin(server, version, event, earlierMembers(room)), ({ status }) =>
      Effect.sync(() => {
        isRefused = status !== undefined && status < 500
      })
    )
    // The room is opened while the other server answers.
    const opened = intakeLock.withPermits(1)(Effect.uninterruptible(loadAs(version)))
    const begin = Effect.flatMap(Effect.all([sent, opened], { concurrency: 2 }), ([answer]) => {
      const join = answer.event ?? event
      const installing = intakeLock.withPermits(1)(takeJoin(server, version, join, answer))
      return Effect.map(Effect.uninterruptible(installing), (isBegun) => (isBegun ? undefined : join))
    })
    // Events of a room that is ours already do not wait.
    yield* (Option.exists(room, ({ isOurs }) => isOurs) ? begin : whileInstalling(begin)).pipe(
      Effect.flatMap((join) => (join === undefined ? Effect.void : placeJoin(server, join))),
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
  const earlierMembers = (room: Option.Option<RoomState>) =>
    Option.isSome(room) && room.value.current.size > 0 ? graph.knownBodies(room.value) : undefined

  /** The room, which has this version where it is not ours. */
  const loadAs = Effect.fnUntraced(function* (version: RoomVersion) {
    const known = Option.getOrUndefined(yield* loaded)
    if (known !== undefined && (known.isOurs || known.version.id === version.id)) return known
    yield* prepare(version.id)
    return yield* load
  })

  /** Begins the room with the join. False if it is ours meanwhile: then the join is an event like any other. */
  const takeJoin = Effect.fnUntraced(function* (
    server: ServerName,
    version: RoomVersion,
    event: Event,
    answer: RemoteState
  ) {
    const room = yield* loadAs(version)
    if (room.isOurs) return false
    yield* Effect.catchTag(install(room, event, answer, server), "M_FORBIDDEN", ({ error }) =>
      Effect.fail(new RemoteFailure({ destination: server, reason: error, errcode: "M_FORBIDDEN" }))
    )
    return true
  })

  /** The join to a room that is ours. What is missing before it is fetched without the room's lock. */
  const placeJoin = Effect.fnUntraced(function* (server: ServerName, join: Event) {
    const gap = yield* gaps.close(yield* loadOurs, server, [join])
    yield* intakeLock.withPermits(1)(Effect.flatMap(loadOurs, (room) => placeAll(room, gap)))
  })

  return { joinRemotely, installed: installed.await }
})
