/**
 * Rooms: `SendRequests` sends events, `MembershipRequests` changes memberships, and `RoomReader` reads.
 *
 * Source: "Rooms" and "Events" of the client-server specification.
 */
import { joinedMember, RoomReader } from "@greenroom/actors/room/RoomReader"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { makeMembershipRequests } from "./MembershipRequests.ts"
import { makeSendRequests } from "./SendRequests.ts"

export const roomsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.rooms", (handlers) =>
  withServices(function* () {
    const rooms = yield* Rooms
    const reader = yield* RoomReader
    const { redact, send, sendWithTransaction, setState } = yield* makeSendRequests
    const { invite, join, knock, leave, moderate } = yield* makeMembershipRequests

    const stateEvent = (
      roomId: RoomId,
      type: string,
      stateKey: string,
      format: "content" | "event" | undefined
    ): Effect.Effect<JsonObject, MatrixError, CurrentSession> =>
      CurrentSession.use((session) =>
        Effect.map(reader.stateEvent(session, roomId, type, stateKey), (event) =>
          format === "event" ? (event as unknown as JsonObject) : event.content
        )
      )

    return handlers
      .handle("send", ({ params, payload, query }) => sendWithTransaction(params, payload, query))
      .handle("sendWithoutTransaction", ({ params, payload, query }) => send(params, payload, query))
      .handle("setState", ({ params, payload, query }) => setState({ ...params, stateKey: "" }, payload, query))
      .handle("setStateWithKey", ({ params, payload, query }) => setState(params, payload, query))
      .handle("redact", ({ params, payload }) => redact(params, payload))
      .handle("redactWithoutTransaction", ({ params, payload }) => redact(params, payload))
      .handle("state", ({ params }) => CurrentSession.use((session) => reader.state(session, params.roomId)))
      .handle("stateEvent", ({ params, query }) => stateEvent(params.roomId, params.eventType, "", query.format))
      .handle("stateEventWithKey", ({ params, query }) =>
        stateEvent(params.roomId, params.eventType, params.stateKey, query.format)
      )
      .handle("members", ({ params, query }) =>
        CurrentSession.use((session) =>
          Effect.map(
            reader.members(session, params.roomId, {
              at: query.at,
              membership: query.membership,
              notMembership: query.not_membership
            }),
            (chunk) => ({ chunk })
          )
        )
      )
      .handle("joinedMembers", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.map(reader.joinedMembers(session, params.roomId), (members) => ({
            joined: Object.fromEntries(members.map((event) => [event.state_key ?? "", joinedMember(event)]))
          }))
        )
      )
      .handle("event", ({ params }) =>
        CurrentSession.use((session) => reader.event(session, params.roomId, params.eventId))
      )
      .handle("messages", ({ params, query }) =>
        CurrentSession.use((session) =>
          reader.messages(session, params.roomId, {
            from: query.from,
            to: query.to,
            dir: query.dir,
            limit: query.limit,
            filter: query.filter
          })
        )
      )
      .handle("context", ({ params, query }) =>
        CurrentSession.use((session) =>
          reader.context(session, params.roomId, params.eventId, { limit: query.limit, filter: query.filter })
        )
      )
      .handle("joinedRooms", () =>
        CurrentSession.use((session) => Effect.map(reader.joinedRooms(session), (joined_rooms) => ({ joined_rooms })))
      )
      .handle("joinByIdOrAlias", ({ params, payload }) => join(params.roomIdOrAlias, payload))
      .handle("join", ({ params, payload }) => join(params.roomId, payload))
      .handle("knock", ({ params, payload }) => knock(params.roomIdOrAlias, payload))
      .handle("leave", ({ params, payload }) => leave(params.roomId, payload))
      .handle("invite", ({ params, payload }) => invite(params.roomId, payload))
      .handle("kick", ({ params, payload }) => moderate("kick", params.roomId, payload))
      .handle("ban", ({ params, payload }) => moderate("ban", params.roomId, payload))
      .handle("unban", ({ params, payload }) => moderate("unban", params.roomId, payload))
      .handle("typing", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(rooms.setTyping(session, params.roomId, params.userId, payload.typing, payload.timeout), done)
        )
      )
  })
)
