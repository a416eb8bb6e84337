/**
 * Joins and knocks of users, also in rooms that this server takes no part in.
 *
 * Source: "Joining rooms", "Knocking on rooms" of the client-server specification.
 */
import { checkEvent } from "@greenroom/protocol/EventCheck"
import { type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { GuestAccessForbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { Effect } from "effect"
import { ask } from "../../runtime/Ask.ts"
import type { Session } from "../../runtime/Session.ts"
import type { MembershipLimits } from "../MembershipLimits.ts"
import { Room } from "../RoomProtocol.ts"
import type { EventRequests, RequestTransaction } from "./EventRequests.ts"
import type { ViaServers } from "./ViaServers.ts"

/** Whether the join rules ask for a user of another server who authorises the join. */
const needsVoucher = ({ _tag }: MatrixError): boolean =>
  _tag === "M_UNABLE_TO_GRANT_JOIN" || _tag === "M_UNABLE_TO_AUTHORISE_JOIN"

export const makeJoinRequests = Effect.fnUntraced(function* (
  { propose, transactionOf }: EventRequests,
  { serversOutside }: ViaServers,
  { entering }: MembershipLimits
) {
  const room = yield* Room.client
  const profiles = yield* ProfileStore

  /** The content of a membership that a user gives themselves: their profile, unless it says otherwise. */
  const ownContent = (userId: UserId, content: JsonObject): Effect.Effect<JsonObject> =>
    Effect.map(profiles.publicProfile(userId), (profile) => ({ ...profile, ...content }))

  /**
   * This server has no user that can authorise a restricted join; another server may have one. Where no other server takes
   * part, the refusal of this one is the answer.
   */
  const joinByVoucher = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    content: JsonObject,
    named: ReadonlyArray<ServerName>,
    refusal: MatrixError
  ): Effect.fn.Return<void, MatrixError> {
    const known = [...named, ...(yield* ask(room(roomId).Servers()))]
    const servers = known.filter((server) => server !== serverNameOf(userId))
    if (servers.length === 0) return yield* refusal
    yield* ask(room(roomId).JoinRemotely({ userId, content, servers }))
  })

  const join = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    content: JsonObject,
    txnId: string | undefined,
    servers: ReadonlyArray<ServerName>
  ) {
    const [own, through] = yield* Effect.all(
      [ownContent(session.userId, content), serversOutside(session.userId, roomId, servers)],
      { concurrency: 2 }
    )
    const membership = { ...own, membership: "join" }
    if (through.length > 0) {
      if (session.guest)
        return yield* new GuestAccessForbidden({ error: `This server does not know whether guests may join ${roomId}` })
      const problem = checkEvent("m.room.member", session.userId, membership)
      if (problem !== undefined) return yield* problem
      yield* ask(room(roomId).JoinRemotely({ userId: session.userId, content: membership, servers: through }))
      return { room_id: roomId }
    }
    const joining = { type: "m.room.member", stateKey: session.userId, content: membership }
    yield* Effect.catch(
      propose(session, roomId, joining, transactionOf(session, "join", undefined, txnId)),
      (refusal) =>
        needsVoucher(refusal)
          ? joinByVoucher(session.userId, roomId, membership, servers, refusal)
          : Effect.fail(refusal)
    )
    return { room_id: roomId }
  })

  const joinRoom = Effect.fn("Rooms.joinRoom")(
    (session: Session, roomId: RoomId, content: JsonObject, txnId?: string, servers: ReadonlyArray<ServerName> = []) =>
      entering(session.userId, roomId, join(session, roomId, content, txnId, servers))
  )

  const enterKnocking = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    content: JsonObject,
    transaction: RequestTransaction,
    named: ReadonlyArray<ServerName>
  ) {
    const { guest, userId } = session
    if (guest) return yield* new GuestAccessForbidden({ error: "Guests do not knock" })
    const membership = { ...(yield* ownContent(userId, content)), membership: "knock" }
    const servers = yield* serversOutside(userId, roomId, named)
    if (servers.length === 0) {
      return yield* propose(
        session,
        roomId,
        { type: "m.room.member", stateKey: userId, content: membership },
        transaction
      )
    }
    const problem = checkEvent("m.room.member", userId, membership)
    if (problem !== undefined) return yield* problem
    return yield* ask(room(roomId).KnockRemotely({ userId, content: membership, servers }))
  })

  const knock = (
    session: Session,
    roomId: RoomId,
    content: JsonObject,
    transaction: RequestTransaction,
    servers: ReadonlyArray<ServerName>
  ) => entering(session.userId, roomId, enterKnocking(session, roomId, content, transaction, servers))

  return { ownContent, joinRoom, knock }
})

export type JoinRequests = Effect.Success<ReturnType<typeof makeJoinRequests>>
