/**
 * Memberships of users of other servers in a room of this one: their handshakes of joins, leaves and knocks, and the draft's
 * m.room.invite_join.
 *
 * Source: docs/federation.md, "Joining"; "Joining Rooms" of the server-server specification.
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
  type MatrixError
} from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { EventStatus } from "@greenroom/store/EventLog"
import type { Allowance } from "@greenroom/store/LargeReads"
import { Clock, Effect, Result } from "effect"
import type { MembershipHandshake } from "../RemoteRooms.ts"
import type { TakenMembership } from "../RoomProtocol.ts"
import { requireAdmitted } from "../ServerAcl.ts"
import { strippedState } from "../StrippedState.ts"
import type { OutgoingInvites } from "./OutgoingInvites.ts"
import type { RestrictedJoins } from "./RestrictedJoins.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import type { RoomPolicies } from "./RoomPolicies.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { type StateForServers, stateNow } from "./StateForServers.ts"

/** Whether a user of another server may learn of the room. */
export const isVisibleTo = (room: RoomState, userId: UserId, handshake: MembershipHandshake): boolean => {
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

const requireKnown = (room: RoomState, versions: ReadonlyArray<string> | undefined) =>
  versions === undefined || versions.includes(room.version.id)
    ? Effect.void
    : new IncompatibleRoomVersion({
        error: `The room has version ${room.version.id}, which is not among the versions of the request`,
        room_version: room.version.id
      })

const checkHandshake = (event: Event, origin: ServerName, handshake: MembershipHandshake) =>
  event.type !== "m.room.member" || event.content.membership !== handshake || event.state_key !== event.sender
    ? new InvalidParam({ error: `The PDU is not a ${handshake} of its sender` })
    : event.origin !== origin || serverNameOf(event.sender) !== origin
      ? new Forbidden({ error: `The PDU is not a ${handshake} of a user of ${origin}` })
      : Effect.void

/** The other parts of the Room actor that the handshakes need. */
interface HandshakeNeeds {
  readonly invites: OutgoingInvites
  readonly policies: RoomPolicies
  readonly restricted: RestrictedJoins
  readonly states: StateForServers
}

export const makeIncomingMemberships = (
  { roomId, serverName, signingKey }: RoomWriter,
  { graph, intakeLock, loadOurs, notFound }: RoomIntake,
  { invites, policies, restricted, states }: HandshakeNeeds
) => {
  /** Without a local member this server does not know the current state of the room. Invitations can be rejected even then. */
  const requireOurs = (room: RoomState, handshake: MembershipHandshake): Effect.Effect<void, MatrixError> =>
    handshake === "leave" || room.servers.has(serverName) ? Effect.void : notFound

  // On MakeMembership

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

  const makeMembership = Effect.fnUntraced(function* (
    handshake: MembershipHandshake,
    userId: UserId,
    versions: ReadonlyArray<string> | undefined
  ): Effect.fn.Return<{ readonly room_version: string; readonly event: JsonObject }, Failure> {
    yield* invites.invitePlaced(userId)
    const room = yield* loadOurs
    yield* requireOurs(room, handshake)
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
    if (Result.isFailure(built))
      return yield* new BadRequest({ error: "The membership event would be invalid or too large" })
    const refusal = room.version.authorise(built.success, state) ?? room.version.authorise(built.success, room.lookup)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal.rule })
    return { room_version: room.version.id, event: room.version.toTemplate(built.success) }
  })

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

  // On SendMembership

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
   * Places the membership of a user of another server, sends it to the other servers in the room, and returns the state before
   * it. The state is read without holding the room, as much as `allowance` lets through.
   */
  const sendMembership = (
    origin: ServerName,
    handshake: MembershipHandshake,
    event: Event,
    allowance: Allowance
  ): Effect.Effect<TakenMembership, Failure> =>
    Effect.flatMap(takeRecommended(origin, handshake, event), ({ event, known, room }) =>
      handshake === "join"
        ? Effect.map(states.stateBefore(room, event.event_id, allowance, known), (state) => ({ event, ...state }))
        : Effect.succeed({ event, state: handshake === "knock" ? strippedState(room.lookup) : [], authChain: [] })
    )

  /** The room, if the server may hand in the membership. */
  const requireAcceptable = Effect.fnUntraced(function* (
    origin: ServerName,
    handshake: MembershipHandshake,
    event: Event
  ): Effect.fn.Return<RoomState, Failure> {
    const room = yield* loadOurs
    yield* checkHandshake(event, origin, handshake)
    yield* requireOurs(room, handshake)
    yield* requireVisible(room, event.sender, handshake)
    yield* requireAdmitted(room.lookup, origin)
    yield* requireVouched(room, event)
    return room
  })

  /**
   * The policy server of the room may refuse the membership, which then fails. It is asked only about memberships that are acceptable
   * otherwise, and without the lock: the room may change meanwhile.
   */
  const takeRecommended = Effect.fnUntraced(function* (
    origin: ServerName,
    handshake: MembershipHandshake,
    event: Event
  ) {
    const room = yield* requireAcceptable(origin, handshake, event)
    return yield* takeMembership(origin, handshake, yield* policies.recommended(room, event))
  })

  const takeMembership = (origin: ServerName, handshake: MembershipHandshake, event: Event) =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const room = yield* requireAcceptable(origin, handshake, event)
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
            yield* graph.flush(room)
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

  return { makeMembership, sendMembership, inviteJoin }
}
