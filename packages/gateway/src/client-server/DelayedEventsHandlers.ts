/**
 * Events that are sent later, as calls of `DelayedEvents`.
 *
 * Source: MSC4140.
 */
import { type DelayAction, type DelayedEvent, DelayedEvents, delayOf } from "@greenroom/actors/room/DelayedEvents"
import { CurrentSession, CurrentViewer } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { type Delayed, isDelayAction } from "@greenroom/protocol/client-server/DelayedEventsApi"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

/** Older clients read `delay` and `running_since`. */
const toClient = (event: DelayedEvent): Delayed => ({
  delay_id: event.delayId,
  room_id: event.roomId,
  type: event.type,
  ...(event.stateKey === undefined ? {} : { state_key: event.stateKey }),
  delay_ms: event.delay,
  delay: event.delay,
  scheduled_at: event.scheduledAt,
  running_since: event.scheduledAt,
  content: event.content,
  ...(event.finalisedAt === undefined ? {} : { finalised_ts: event.finalisedAt }),
  ...(event.eventId === undefined ? {} : { event_id: event.eventId }),
  ...(event.error === undefined ? {} : { error: event.error })
})

const conflict = HttpServerResponse.jsonUnsafe(
  { errcode: "M_UNKNOWN", error: "The event was sent or cancelled already" },
  { status: 409 }
)

export const delayedEventsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.delayedEvents", (handlers) =>
  withServices(function* () {
    const events = yield* DelayedEvents

    const act = (delayId: string, action: DelayAction) =>
      CurrentViewer.use((viewer) =>
        Effect.map(events.act(viewer?.userId, delayId, action), (outcome) => (outcome === "done" ? done : conflict))
      )

    return handlers
      .handle("schedule", ({ params: { eventType, roomId, txnId }, payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const delay = yield* delayOf(payload.delay_ms)
            const { content, state_key } = payload
            const request = { roomId, type: eventType, stateKey: state_key, content, delay, txnId }
            return { delay_id: yield* events.schedule(session, request) }
          })
        )
      )
      .handle("list", () =>
        CurrentSession.use((session) =>
          Effect.map(events.list(session), (list) => ({ delayed_events: list.map(toClient) }))
        )
      )
      .handle("get", ({ params }) =>
        CurrentSession.use((session) => Effect.map(events.find(session, params.delayId), toClient))
      )
      .handle("actByBody", ({ params, payload }) => act(params.delayId, payload.action))
      .handle("act", ({ params: { action, delayId } }) =>
        isDelayAction(action)
          ? act(delayId, action)
          : Effect.fail(new NotFound({ error: `There is no action ${action.slice(0, 64)} on delayed events` }))
      )
  })
)
