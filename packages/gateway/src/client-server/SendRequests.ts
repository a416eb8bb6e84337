/**
 * Sending events, state and redactions by today's client API, at once as calls of `Rooms`, or later as calls of `DelayedEvents`.
 *
 * Source: "Sending events to a room" and "Redactions" of the client-server specification; MSC4140.
 */
import { checkCanonicalAliases } from "@greenroom/actors/room/CanonicalAliases"
import { DelayedEvents, type DelayedRequest, delayOf } from "@greenroom/actors/room/DelayedEvents"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { delayParameter, type SentEvent } from "@greenroom/protocol/client-server/RoomsApi"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type MatrixError, NotJson } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"

const noContent = new NotJson({ error: "There is no body" })

export interface StateParams {
  readonly roomId: RoomId
  readonly eventType: string
  readonly stateKey: string
}

export interface MessageParams {
  readonly roomId: RoomId
  readonly eventType: string
  readonly txnId?: string
}

export interface RedactionParams {
  readonly roomId: RoomId
  readonly eventId: EventId
  readonly txnId?: string
}

/** The endpoints that send. */
export const makeSendRequests = Effect.gen(function* () {
  const rooms = yield* Rooms
  const delayed = yield* DelayedEvents

  const schedule = (session: Session, given: number, request: Omit<DelayedRequest, "delay">) =>
    Effect.gen(function* () {
      const delay = yield* delayOf(given)
      return HttpServerResponse.jsonUnsafe({ delay_id: yield* delayed.schedule(session, { ...request, delay }) })
    })

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

  const redact = ({ eventId, roomId, txnId }: RedactionParams, body: JsonObject | null | undefined) =>
    CurrentSession.use((session) => rooms.redact(session, roomId, eventId, body ?? {}, txnId))

  return { redact, send, sendWithTransaction, setState }
})
