/**
 * Handshakes of our users with rooms of other servers: which servers are tried, and the membership event that one of them proposes.
 * `OutgoingJoins`, `OutgoingLeaves` and `OutgoingKnocks` use them.
 *
 * Source: docs/federation.md, "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import { type ServerName, serverPartOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { Clock, Effect, type Fiber, Result } from "effect"
import { type MembershipHandshake, RemoteFailure, RemoteRooms } from "../RemoteRooms.ts"
import type { Failure } from "./RoomIntake.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { refusalOf } from "./remoteRefusals.ts"

/** How many servers are tried for a handshake, one after the other. */
const maxCandidates = 10

export const makeOutgoingHandshakes = Effect.fnUntraced(function* ({ roomId, serverName, signingKey }: RoomWriter) {
  const remote = yield* RemoteRooms
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
    // This fails the attempt with one server. Another server may name a known version.
    if (version === undefined) {
      return yield* new RemoteFailure({
        destination: server,
        reason: `The room has version ${template.room_version}, which is unknown here`,
        errcode: "M_INCOMPATIBLE_ROOM_VERSION",
        roomVersion: template.room_version
      })
    }
    const now = yield* Clock.currentTimeMillis
    const proposed = isJsonObject(template.event.content) ? template.event.content : {}
    const voucher = proposed.join_authorised_via_users_server
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
    if (proposed.membership !== handshake || Result.isFailure(built) || !isAsked(built.success)) {
      const reason = `${server} proposes a membership that was not asked for`
      return yield* new RemoteFailure({ destination: server, reason, errcode: "M_BAD_JSON" })
    }
    return { version, event: built.success }
  })

  /**
   * Requests to other servers run in a fiber of the actor, without the room's lock: a silent server delays no one else, and
   * a client that disconnects does not interrupt the change.
   */
  const forkRequest = <A, E>(request: Effect.Effect<A, E>): Effect.Effect<Fiber.Fiber<A, E>> =>
    Effect.forkIn(Effect.interruptible(request), scope)

  /** The joins under way, by user. */
  const joins = new Map<UserId, Fiber.Fiber<void, Failure>>()

  return { firstOf, complete, forkRequest, joins }
})

export type OutgoingHandshakes = Effect.Success<ReturnType<typeof makeOutgoingHandshakes>>
