/**
 * The event stream by long poll, and what a client asks for when it starts, as calls of `Events` and `Rooms`.
 *
 * Source: "Receiving live updates on a client" of the specification.
 */

import { Presences } from "@greenroom/actors/presence/Presences"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { StreamChunk } from "@greenroom/actors/sync/EventStream"
import { Events } from "@greenroom/actors/sync/Events"
import type { PushRules } from "@greenroom/protocol/api/Answers"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { BadRequest, type MatrixError } from "@greenroom/protocol/MatrixError"
import { defaultTimeout, type Pagination } from "@greenroom/protocol/Pagination"
import { Cause, Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { Shutdown } from "../Shutdown.ts"
import { withServices } from "./EndpointServices.ts"
import { pagination } from "./Paging.ts"

const noPushRules: PushRules = {
  device: {},
  global: { content: [], override: [], room: [], sender: [], underride: [] }
}

const jsonType = { contentType: "application/json" } as const

/** The events are text already, as they came from the log; they are not read again. */
const chunkResponse = ({ json, start, end }: StreamChunk): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(`{"chunk":${json},"start":${JSON.stringify(start)},"end":${JSON.stringify(end)}}`, jsonType)

/**
 * A poll that waits: the user is there as long as it does. When the gateway goes down the waiting is interrupted, and
 * the poll answered with what there is. (There are many polls, so they do without fibers beside that of the request.)
 */
const makePoll =
  (events: Events["Service"], presences: Presences["Service"], shutdown: Shutdown["Service"]) =>
  (
    session: Session,
    { from, limit, timeout = defaultTimeout }: Pagination
  ): Effect.Effect<StreamChunk, MatrixError> => {
    const options = {
      ...(from === undefined ? {} : { from }),
      ...(limit === undefined ? {} : { limit })
    }
    const now = events.poll(session, { ...options, timeout: 0 })
    if (timeout === 0) return Effect.scoped(Effect.andThen(presences.connected(session), now))
    const waiting = Effect.withFiber<StreamChunk, MatrixError>((fiber) => {
      const forget = shutdown.onRequest(() => fiber.interruptUnsafe())
      return Effect.ensuring(events.poll(session, { ...options, timeout }), Effect.sync(forget))
    })
    return presences.connected(session).pipe(
      Effect.andThen(Effect.interruptible(waiting)),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause) && shutdown.isRequested() ? now : Effect.failCause(cause)
      ),
      Effect.scoped
    )
  }

export const eventsHandlers = HttpApiBuilder.group(ClientApi, "events", (handlers) =>
  withServices(function* () {
    const events = yield* Events
    const rooms = yield* Rooms
    const poll = makePoll(events, yield* Presences, yield* Shutdown)
    return handlers
      .handle(
        "poll",
        ({ query }) =>
          CurrentSession.use((session) =>
            pagination(query).pipe(
              Effect.flatMap((options) => poll(session, options)),
              Effect.map(chunkResponse)
            )
          ),
        { uninterruptible: true }
      )
      .handle("event", ({ params }) => CurrentSession.use((session) => rooms.getEvent(session, params.eventId)))
      .handle("initialSync", ({ query }) =>
        CurrentSession.use((session) =>
          Effect.flatMap(pagination(query), ({ limit }) => events.initialSync(session, limit))
        )
      )
      .handle("roomInitialSync", ({ params, query }) =>
        CurrentSession.use((session) =>
          Effect.flatMap(pagination(query), ({ limit }) => rooms.initialSync(session, params.roomId, limit))
        )
      )
      .handle("pushRules", () => Effect.succeed(noPushRules))
      .handle("socket", () =>
        Effect.fail(new BadRequest({ error: "A WebSocket lives here: ask with Upgrade: websocket" }))
      )
  })
)
