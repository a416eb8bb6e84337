/**
 * Memberships of our users in rooms of other home servers, and invites of their users.
 *
 * Source: "Joining Rooms", "Knocking upon a room", "Inviting to a room" and "Leaving Rooms" of the server-server specification.
 */
import type { InviteAnswer, MakeMembershipAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import { federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { itemsOf, type JsonObject } from "@greenroom/protocol/Json"
import { roomVersions } from "@greenroom/room/RoomVersions"
import { Effect } from "effect"
import type { MembershipHandshake } from "../../room/RemoteRooms.ts"
import {
  answerLimits,
  type Call,
  pathOf,
  type StreamedLists,
  shortTimeoutFactor,
  withQuery
} from "../FederationCalls.ts"
import type { RemoteError } from "../RemoteError.ts"
import { type JoinAnswer, readInvite, readJoin, readJoined, readMade, readNothing } from "./answers.ts"
import { type Calls, newest, path } from "./serverServerCalls.ts"

/** An invite of a user of another server, with the version of the room and what the user is shown of it. */
export interface OutgoingInvite {
  readonly event: JsonObject
  readonly room_version: string
  readonly invite_room_state: ReadonlyArray<JsonObject>
}

const joinLists: ReadonlySet<string> = new Set(["state", "auth_chain"])

const knownVersions = [...roomVersions.keys()]

export const handshakes = ({ call, callEither }: Calls) => {
  /** The template of a membership of one of our users. */
  const makeMembership = (
    destination: ServerName,
    handshake: MembershipHandshake,
    roomId: RoomId,
    userId: UserId
  ): Effect.Effect<MakeMembershipAnswer, RemoteError> => {
    const common = {
      destination,
      method: "GET" as const,
      maxBytes: answerLimits.small,
      timeoutFactor: shortTimeoutFactor,
      isUrgent: true,
      read: (answer: JsonObject) =>
        // The servers of versions 1 and 2 did not say which it is.
        readMade(answer.room_version === undefined ? { ...answer, room_version: "1" } : answer)
    }
    const versions = handshake === "leave" ? [] : knownVersions.map((id) => ["ver", id] as const)
    return callEither(
      { ...common, uri: withQuery(path("v1", `make_${handshake}`, roomId, userId), versions) },
      { ...common, uri: federationPrefix + pathOf(`make_${handshake}`, roomId, userId) }
    )
  }

  /** Sends a leave or a knock. Returns, after a knock, the state that the user is shown. */
  const sendMembership = (
    destination: ServerName,
    handshake: "leave" | "knock",
    roomId: RoomId,
    id: EventId,
    pdu: JsonObject
  ) => {
    const common = {
      destination,
      method: "PUT" as const,
      content: pdu,
      maxBytes: answerLimits.transaction,
      timeoutFactor: shortTimeoutFactor,
      isUrgent: true
    }
    const readState = ({ knock_room_state: shown }: JsonObject) => ({ state: itemsOf(shown) })
    const first = { ...common, read: readState, uri: path("v1", `send_${handshake}`, roomId, id) }
    return handshake === "knock"
      ? call(first)
      : newest(call({ ...first, uri: path("v2", "send_leave", roomId, id) }), call(first))
  }

  return {
    makeMembership,
    sendMembership,
    /**
     * Sends a join. Returns the state before it. `omitMembers` lets the other server leave out memberships. `take` gets the state and the auth chain while they arrive.
     */
    sendJoin: (
      destination: ServerName,
      roomId: RoomId,
      eventId: EventId,
      pdu: JsonObject,
      omitMembers: boolean,
      take: StreamedLists["take"]
    ): Effect.Effect<JoinAnswer, RemoteError> => {
      const common = {
        destination,
        method: "PUT" as const,
        content: pdu,
        maxBytes: answerLimits.wholeState,
        timeoutFactor: 4,
        isUrgent: true,
        hasPdus: true
      }
      const uri = withQuery(path("v2", "send_join", roomId, eventId), [
        ["omit_members", omitMembers ? "true" : undefined]
      ])
      // The first version answers with a list of two, which comes whole.
      const byFirst = Effect.gen(function* () {
        const { auth_chain, state } = yield* call({
          ...common,
          uri: path("v1", "send_join", roomId, eventId),
          read: readJoined
        })
        yield* take("auth_chain", auth_chain)
        yield* take("state", state)
        return {}
      })
      return newest(call({ ...common, uri, lists: { keys: joinLists, take }, read: readJoin }), byFirst)
    },
    /** Sends an invite to the server of the invited user. Returns it countersigned. */
    invite: (
      destination: ServerName,
      roomId: RoomId,
      eventId: EventId,
      invite: OutgoingInvite
    ): Effect.Effect<InviteAnswer, RemoteError> => {
      const common = {
        destination,
        method: "PUT" as const,
        maxBytes: answerLimits.small,
        isUrgent: true,
        hasPdus: true,
        read: readInvite
      }
      const second: Call<InviteAnswer> = {
        ...common,
        uri: path("v2", "invite", roomId, eventId),
        content: invite as unknown as JsonObject
      }
      const first: Call<InviteAnswer> = {
        ...common,
        uri: path("v1", "invite", roomId, eventId),
        content: { ...invite.event, unsigned: { invite_room_state: invite.invite_room_state } }
      }
      return invite.room_version === "1" || invite.room_version === "2"
        ? newest(call(second), call(first))
        : call(second)
    },
    /** Asks the home server of the user who invited an address to invite the user that it was bound to. */
    exchangeThirdPartyInvite: (destination: ServerName, roomId: RoomId, template: JsonObject) =>
      Effect.asVoid(
        call({
          destination,
          method: "PUT",
          uri: path("v1", "exchange_third_party_invite", roomId),
          content: template,
          maxBytes: answerLimits.small,
          timeoutFactor: 2,
          read: readNothing
        })
      )
  }
}
