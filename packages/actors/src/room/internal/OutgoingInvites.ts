/**
 * Invites of users of other servers by our users: the server of the invited user countersigns the event, then it is placed.
 *
 * Source: "Inviting to a room" of the server-server specification.
 */
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, Forbidden } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { EventStatus } from "@greenroom/store/EventLog"
import { Clock, Effect, Latch, Result } from "effect"
import { RemoteRooms } from "../RemoteRooms.ts"
import type { RoomTransaction } from "../RoomProtocol.ts"
import { strippedState } from "../StrippedState.ts"
import type { RoomIntake } from "./RoomIntake.ts"
import { makeRoomPolicies } from "./RoomPolicies.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { inviteRefusalOf } from "./remoteRefusals.ts"

/** How long a membership of an invited user waits until the invitation is placed. */
const invitePlacedTimeout = "5 seconds"

export const makeOutgoingInvites = Effect.fnUntraced(function* (writer: RoomWriter, intake: RoomIntake) {
  const { roomId, serverName, signingKey, transactions } = writer
  const { graph, intakeLock, loadOurs } = intake
  const remote = yield* RemoteRooms
  const policies = yield* makeRoomPolicies

  /** Invitations that the other server may have already, and this one has not placed yet. */
  const inviting = new Map<UserId, Latch.Latch>()

  /** A server may answer its user's invitation before we have placed it: its user's membership waits for that. */
  const invitePlaced = (userId: UserId): Effect.Effect<void> =>
    Effect.suspend(() => {
      const latch = inviting.get(userId)
      return latch === undefined ? Effect.void : Effect.asVoid(Effect.timeoutOption(latch.await, invitePlacedTimeout))
    })

  /** The invited user's server has signed it already: unless it is in the room, only the draft sends it the event of the room too. */
  const recipients = (room: RoomState, invited: UserId): ReadonlySet<ServerName> =>
    isDraft(room.version) ? new Set([...room.destinations(), serverNameOf(invited)]) : room.destinations()

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
      remote.invite(serverNameOf(invited), room.version, invite, strippedState(room.lookup, sender)),
      (failure) => inviteRefusalOf(serverNameOf(invited), failure)
    )
    const answer = { event_id: signed.event_id }
    const placed = yield* intakeLock.withPermits(1)(
      graph.place(room, signed, {
        relayTo: (after) => recipients(after, invited),
        answers: transaction === undefined ? undefined : transactions.row(transaction, roomId, answer)
      })
    )
    if (placed._tag === "Placed") yield* placed.durable
    if (placed._tag !== "Placed" || placed.status !== EventStatus.timeline) {
      return yield* new Forbidden({ error: "The invite is no longer allowed" })
    }
    return answer
  })

  return { invitePlaced, inviteRemotely }
})

export type OutgoingInvites = Effect.Success<ReturnType<typeof makeOutgoingInvites>>
