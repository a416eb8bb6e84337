/**
 * Rooms, as calls of `Rooms` for what changes them and of `RoomReader` for what only reads.
 *
 * Source: "Rooms" and "Events" of the client-server specification.
 */
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import { checkCanonicalAliases } from "@greenroom/actors/room/CanonicalAliases"
import { DelayedEvents, type DelayedRequest, delayOf } from "@greenroom/actors/room/DelayedEvents"
import { joinedMember, RoomReader } from "@greenroom/actors/room/RoomReader"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { delayParameter, type SentEvent } from "@greenroom/protocol/client-server/RoomsApi"
import { type EventId, isRoomId, isUserId, type RoomAlias, type RoomId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, type MatrixError, MissingParam, NotJson } from "@greenroom/protocol/MatrixError"
import { Effect, Struct } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { reasonOf } from "../client-api/RoomsHandlers.ts"
import { addressToInvite } from "./AddressToInvite.ts"
import { namedServers } from "./NamedServers.ts"

const noContent = new NotJson({ error: "There is no body" })

/**
 * The fields that a user adds to their own membership: `reason`, and fields of the user's own, as Synapse takes them. The
 * profile is that of the account, and the server chooses who authorises a join.
 */
const membershipContent = (body: JsonObject | null | undefined): Effect.Effect<JsonObject, BadJson> =>
  Effect.map(reasonOf(body), (reason): JsonObject => {
    const { auth, avatar_url, displayname, join_authorised_via_users_server, membership, third_party_signed, ...own } =
      body ?? {}
    return reason === undefined ? Struct.omit(own, ["reason"]) : own
  })

export const roomsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.rooms", (handlers) =>
  withServices(function* () {
    const rooms = yield* Rooms
    const reader = yield* RoomReader
    const invites = yield* ThirdPartyInvites
    const delayed = yield* DelayedEvents

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

    /** Users who opened the link of an invitation by mail bring what the identity server has signed. */
    const acceptInvite = Effect.fnUntraced(function* (
      session: Session,
      roomIdOrAlias: RoomId | RoomAlias,
      signed: Json | undefined
    ) {
      if (signed == null) return
      if (!isJsonObject(signed)) return yield* new BadJson({ error: "third_party_signed: expected an object" })
      const roomId = isRoomId(roomIdOrAlias) ? roomIdOrAlias : (yield* rooms.resolveAlias(roomIdOrAlias)).room_id
      yield* invites.accept(session, roomId, signed)
    })

    const join = (roomIdOrAlias: RoomId | RoomAlias, body: JsonObject | null | undefined) =>
      CurrentSession.use((session) =>
        Effect.gen(function* () {
          const content = yield* membershipContent(body)
          yield* acceptInvite(session, roomIdOrAlias, body?.third_party_signed)
          return yield* rooms.join(session, roomIdOrAlias, content, undefined, yield* namedServers)
        })
      )

    const invite = Effect.fnUntraced(function* (roomId: RoomId, body: JsonObject) {
      const session = yield* CurrentSession
      const { user_id } = body
      if (user_id === undefined && body.address !== undefined) {
        yield* invites.invite(session, roomId, yield* addressToInvite(body))
        return done
      }
      if (user_id === undefined) return yield* new MissingParam({ error: "user_id: missing key" })
      if (typeof user_id !== "string" || !isUserId(user_id)) {
        return yield* new BadJson({ error: "user_id: expected a user ID" })
      }
      yield* rooms.setMembership(session, roomId, "invite", user_id, yield* reasonOf(body))
      return done
    })

    const schedule = (session: Session, given: number, request: Omit<DelayedRequest, "delay">) =>
      Effect.gen(function* () {
        const delay = yield* delayOf(given)
        return HttpServerResponse.jsonUnsafe({ delay_id: yield* delayed.schedule(session, { ...request, delay }) })
      })

    interface StateParams {
      readonly roomId: RoomId
      readonly eventType: string
      readonly stateKey: string
    }

    const setState = (
      { eventType, roomId, stateKey }: StateParams,
      content: JsonObject,
      query: { readonly [delayParameter]?: number | undefined }
    ) =>
      CurrentSession.use(
        (session: Session): Effect.Effect<SentEvent | HttpServerResponse.HttpServerResponse, MatrixError> => {
          const delay = query[delayParameter]
          return delay === undefined
            ? Effect.andThen(
                eventType === "m.room.canonical_alias" && stateKey === ""
                  ? checkCanonicalAliases(rooms, session, roomId, content)
                  : Effect.void,
                rooms.setState(session, roomId, eventType, stateKey, content)
              )
            : schedule(session, delay, { roomId, type: eventType, stateKey, content, txnId: undefined })
        }
      )

    interface MessageParams {
      readonly roomId: RoomId
      readonly eventType: string
      readonly txnId?: string
    }

    const send = (
      { eventType, roomId, txnId }: MessageParams,
      content: JsonObject,
      query: { readonly [delayParameter]?: number | undefined }
    ) =>
      CurrentSession.use((session): Effect.Effect<SentEvent | HttpServerResponse.HttpServerResponse, MatrixError> => {
        const delay = query[delayParameter]
        return delay === undefined
          ? rooms.send(session, roomId, eventType, content, txnId)
          : schedule(session, delay, { roomId, type: eventType, stateKey: undefined, content, txnId })
      })

    /** A delayed event that was scheduled already is found without its content. */
    const sendWithTransaction = (
      params: Required<MessageParams>,
      content: JsonObject | undefined,
      query: { readonly [delayParameter]?: number | undefined }
    ) => {
      if (content !== undefined) return send(params, content, query)
      if (query[delayParameter] === undefined) return Effect.fail(noContent)
      return CurrentSession.use((session) =>
        Effect.flatMap(delayed.scheduledAs(session, { ...params, type: params.eventType }), (delay_id) =>
          delay_id === undefined ? Effect.fail(noContent) : Effect.succeed(HttpServerResponse.jsonUnsafe({ delay_id }))
        )
      )
    }

    interface RedactionParams {
      readonly roomId: RoomId
      readonly eventId: EventId
      readonly txnId?: string
    }

    const redact = ({ eventId, roomId, txnId }: RedactionParams, body: JsonObject | null | undefined) =>
      CurrentSession.use((session) =>
        Effect.flatMap(reasonOf(body), (reason) => rooms.redact(session, roomId, eventId, reason, txnId))
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
      .handle("knock", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const target = params.roomIdOrAlias
            const named = yield* namedServers
            const { room_id: roomId, servers } = isRoomId(target)
              ? { room_id: target, servers: [] }
              : yield* rooms.resolveAlias(target)
            const through = [...named, ...servers]
            const reason = yield* reasonOf(payload)
            yield* rooms.setMembership(session, roomId, "knock", session.userId, reason, undefined, through)
            return { room_id: roomId }
          })
        )
      )
      .handle("leave", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.flatMap(reasonOf(payload), (reason) =>
            Effect.as(rooms.leave(session, params.roomId, undefined, reason), done)
          )
        )
      )
      .handle("invite", ({ params, payload }) => invite(params.roomId, payload))
      .handle("kick", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(
            rooms.setMembership(session, params.roomId, "kick", payload.user_id, payload.reason ?? undefined),
            done
          )
        )
      )
      .handle("ban", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(
            rooms.setMembership(session, params.roomId, "ban", payload.user_id, payload.reason ?? undefined),
            done
          )
        )
      )
      .handle("unban", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(
            rooms.setMembership(session, params.roomId, "unban", payload.user_id, payload.reason ?? undefined),
            done
          )
        )
      )
      .handle("typing", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(rooms.setTyping(session, params.roomId, params.userId, payload.typing, payload.timeout), done)
        )
      )
  })
)
