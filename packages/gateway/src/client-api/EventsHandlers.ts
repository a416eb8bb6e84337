/**
 * The event stream by long poll, and the initial sync of a client, as calls of `Events` and `Rooms`.
 *
 * Source: "Receiving live updates on a client" of the draft.
 */

import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { StreamChunk } from "@greenroom/actors/sync/EventStream"
import { Events } from "@greenroom/actors/sync/Events"
import type { PushRules } from "@greenroom/protocol/api/Answers"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { BadRequest } from "@greenroom/protocol/MatrixError"
import { defaultTimeout, type Pagination } from "@greenroom/protocol/Pagination"
import { Effect } from "effect"
import type { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { LongPolls } from "../client-server/LongPolls.ts"
import { jsonText } from "../JsonAnswer.ts"
import { withServices } from "./EndpointServices.ts"
import { pagination } from "./Paging.ts"

const noPushRules: PushRules = {
  device: {},
  global: { content: [], override: [], room: [], sender: [], underride: [] }
}

/** The events are JSON text from the log, which is not parsed again. */
const chunkResponse = ({ json, start, end }: StreamChunk): HttpServerResponse.HttpServerResponse =>
  jsonText(`{"chunk":${json},"start":${JSON.stringify(start)},"end":${JSON.stringify(end)}}`)

/** The parameters of a poll, without its time-out. */
const pollOptions = ({ from, limit }: Pagination) => ({
  ...(from === undefined ? {} : { from }),
  ...(limit === undefined ? {} : { limit })
})

export const eventsHandlers = HttpApiBuilder.group(ClientApi, "events", (handlers) =>
  withServices(function* () {
    const events = yield* Events
    const rooms = yield* Rooms
    const longPolls = yield* LongPolls
    const poll = (session: Session, { timeout = defaultTimeout, ...options }: Pagination) =>
      longPolls.poll({ session, timeout }, (timeout) => events.poll(session, { ...pollOptions(options), timeout }))
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
        Effect.fail(new BadRequest({ error: "This is the path of the WebSocket: send Upgrade: websocket" }))
      )
  })
)
