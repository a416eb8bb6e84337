/**
 * Changes of rooms: requests of users as messages to the Room actor. Each kind of request has its file: `EventRequests`,
 * `JoinRequests`, `LeaveRequests`, `InviteRequests`, `MembershipRequests`, `TypingRequests`, `RoomCreations`.
 */
import { checkEvent } from "@greenroom/protocol/EventCheck"
import { type RoomAlias, type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, BadRequest, Forbidden } from "@greenroom/protocol/MatrixError"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { Effect } from "effect"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { traced } from "../../runtime/Sampling.ts"
import type { Session } from "../../runtime/Session.ts"
import { makeMembershipLimits } from "../MembershipLimits.ts"
import { Room } from "../RoomProtocol.ts"
import { allows } from "../ServerAcl.ts"
import { makeEventRequests } from "./EventRequests.ts"
import { makeInviteRequests } from "./InviteRequests.ts"
import { makeJoinRequests } from "./JoinRequests.ts"
import { makeLeaveRequests } from "./LeaveRequests.ts"
import { makeMembershipRequests } from "./MembershipRequests.ts"
import { makeRoomCreations } from "./RoomCreations.ts"
import { makeTypingRequests } from "./TypingRequests.ts"
import { makeViaServers } from "./ViaServers.ts"

export const makeRoomRequests = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const room = yield* Room.client
  const profiles = yield* ProfileStore
  const directory = yield* DirectoryStore

  const limits = yield* makeMembershipLimits
  const events = yield* makeEventRequests
  const via = yield* makeViaServers
  const invites = yield* makeInviteRequests(events, limits)
  const joins = yield* makeJoinRequests(events, via, limits)
  const leaves = yield* makeLeaveRequests(events, via)
  const { setMember, setMembership } = yield* makeMembershipRequests({ events, invites, joins, leaves, limits })
  const { setTyping } = yield* makeTypingRequests

  const profileOf = (userId: UserId): Effect.Effect<JsonObject> =>
    Effect.map(profiles.publicProfile(userId), (profile) => ({ ...profile }))

  const { create, createSeeded } = yield* makeRoomCreations({
    mustBeInvitable: invites.mustBeInvitable,
    entering: limits.entering,
    profileOf
  })

  /** Checks that aliases of this server in a client's event agree with the directory. */
  const mustPointHere = Effect.fnUntraced(function* (roomId: RoomId, stateKey: string, content: JsonObject) {
    const problem = checkEvent("m.room.aliases", stateKey, content)
    if (problem !== undefined) return yield* problem
    if (stateKey !== serverName) {
      return yield* new Forbidden({ error: `state_key: must be ${serverName}, the server of the sender` })
    }
    const aliases = content.aliases as ReadonlyArray<RoomAlias>
    const foreign = aliases.find((alias) => serverNameOf(alias) !== serverName)
    if (foreign !== undefined) {
      return yield* new BadJson({ error: `aliases: ${foreign} does not belong to ${serverName}` })
    }
    const known = new Set(yield* directory.aliasesOf(roomId))
    const unknown = aliases.find((alias) => !known.has(alias))
    if (unknown !== undefined) return yield* new Forbidden({ error: `aliases: ${unknown} does not point to this room` })
  })

  const setState = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    type: string,
    stateKey: string,
    content: JsonObject,
    txnId?: string
  ) {
    if (type === "m.room.member") return yield* setMember(session, roomId, stateKey, content, txnId)
    if (type === "m.room.aliases") yield* mustPointHere(roomId, stateKey, content)
    if (type === "m.room.server_acl" && stateKey === "" && !allows(content, serverName)) {
      return yield* new BadRequest({ error: `content: would keep ${serverName}, your own server, out of the room` })
    }
    const transaction = events.transactionOf(session, "state", type, txnId)
    return yield* events.propose(session, roomId, { type, content, stateKey }, transaction)
  })

  const refreshMember = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    yield* ask(room(roomId).RefreshMember({ userId, profile: yield* profileOf(userId) }))
  })

  return {
    create,
    createSeeded,
    send: traced("Rooms.send", events.send),
    setState: traced("Rooms.setState", setState),
    joinRoom: joins.joinRoom,
    leave: leaves.leave,
    setMembership: traced("Rooms.setMembership", setMembership),
    redact: traced("Rooms.redact", events.redact),
    setTyping,
    refreshMember,
    propose: events.propose
  }
})

export type RoomRequests = Effect.Success<typeof makeRoomRequests>
