/**
 * Invitations by users, also of users of other servers.
 *
 * Source: "Joining rooms" of the client-server specification.
 */
import { checkEvent } from "@greenroom/protocol/EventCheck"
import { type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { GuestAccessForbidden, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Option } from "effect"
import { AppServiceQueries } from "../../app-service/AppServiceQueries.ts"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import type { MembershipLimits } from "../MembershipLimits.ts"
import { Room } from "../RoomProtocol.ts"
import type { EventRequests, RequestTransaction } from "./EventRequests.ts"

export const makeInviteRequests = Effect.fnUntraced(function* (
  { propose }: EventRequests,
  { mustTakeInvitation }: MembershipLimits
) {
  const { serverName } = yield* HomeServerConfig
  const room = yield* Room.client
  const accounts = yield* AccountStore
  const appServices = yield* AppServiceQueries

  /** Names without an account cannot be invited: a user who registers one later would be in the room. */
  const mustBeInvitable = Effect.fnUntraced(function* (inviter: UserId, userIds: ReadonlyArray<UserId>) {
    const ours = userIds.filter((userId) => serverNameOf(userId) === serverName)
    if (ours.length === 0) return
    const asked = new Set<UserId>()
    let absent = yield* accounts.findAbsent(ours)
    while (Option.isSome(absent) && !asked.has(absent.value) && (yield* appServices.makesUser(absent.value))) {
      asked.add(absent.value)
      absent = yield* accounts.findAbsent(ours)
    }
    if (Option.isSome(absent)) return yield* new NotFound({ error: `There is no user ${absent.value} on this server` })
    yield* Effect.forEach(ours, (userId) => mustTakeInvitation(userId, inviter), { discard: true })
  })

  const invite = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    invited: UserId,
    content: JsonObject,
    transaction: RequestTransaction
  ) {
    if (session.guest) return yield* new GuestAccessForbidden({ error: "Guests invite nobody" })
    const problem = checkEvent("m.room.member", invited, content)
    if (problem !== undefined) return yield* problem
    yield* mustBeInvitable(session.userId, [invited])
    return yield* serverNameOf(invited) === serverName
      ? propose(session, roomId, { type: "m.room.member", stateKey: invited, content }, transaction)
      : ask(room(roomId).InviteRemotely({ sender: session.userId, invited, content, ...transaction }))
  })

  return { mustBeInvitable, invite }
})

export type InviteRequests = Effect.Success<ReturnType<typeof makeInviteRequests>>
