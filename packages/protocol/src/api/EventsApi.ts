/**
 * The event stream: live updates by long poll and by socket, and what a client asks for when it starts.
 *
 * Source: "Receiving live updates on a client" of the draft.
 */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { EventId, RoomId } from "../Identifiers.ts"
import { PaginationFields } from "../Pagination.ts"
import { describeSocket } from "../SocketDocumentation.ts"
import { ClientEvent, EventStreamChunk, InitialSync, PushRules, RoomInitialSync } from "./Answers.ts"
import { Authentication, LongPoll } from "./Authentication.ts"
import { body } from "./Body.ts"
import { documented } from "./Documentation.ts"

const { from, limit, timeout } = PaginationFields

export class EventsApi extends HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.get("poll", "/events", {
      query: { from, timeout, limit },
      success: EventStreamChunk
    })
      .annotate(LongPoll, true)
      .annotateMerge(
        documented({
          summary: "Wait for events",
          text:
            "The updates after `from`, or, if there are none, those within `timeout` ms (default 30,000). " +
            "`from` absent or `END`: from now on. `START`: from the first event that the user may see. Use `end` of the " +
            "answer as the next `from`: each update is returned once. Errors: M_BAD_PAGINATION.",
          who: "any user, for themselves"
        })
      ),
    HttpApiEndpoint.get("event", "/events/:eventId", {
      params: { eventId: EventId },
      success: body(ClientEvent)
    }).annotateMerge(
      documented({
        summary: "One event",
        text: "Errors: M_NOT_FOUND, also for an event that the caller may not see.",
        who: "users who may see the room at that event"
      })
    ),
    HttpApiEndpoint.get("initialSync", "/initialSync", { query: { limit }, success: InitialSync }).annotateMerge(
      documented({
        summary: "The initial synchronisation of all rooms",
        text: "`limit` is the number of messages of each room (default 10, 0 for none). The stream continues at `end`.",
        who: "any user, for themselves"
      })
    ),
    HttpApiEndpoint.get("roomInitialSync", "/rooms/:roomId/initialSync", {
      params: { roomId: RoomId },
      query: { limit },
      success: RoomInitialSync
    }).annotateMerge(
      documented({
        summary: "The initial synchronisation of a room",
        text: "As `/initialSync`, with the presence of the room's members. Errors: M_FORBIDDEN.",
        who: "members of the room"
      })
    ),
    HttpApiEndpoint.get("pushRules", "/pushrules/", { success: PushRules }).annotateMerge(
      documented({
        summary: "The push rules",
        text:
          "The API of 2014 has no push rules: clients that request them at their start get an empty set. The rules by " +
          "which this server notifies are those of `/_matrix/client/v3/pushrules`.",
        who: "any user, for themselves",
        response: { device: {}, global: { content: [], override: [], room: [], sender: [], underride: [] } }
      })
    ),
    HttpApiEndpoint.get("socket", "/socket", {
      query: { from },
      success: HttpApiSchema.Empty(101).annotate({ description: "The connection is a WebSocket now" })
    }).annotateMerge(
      documented({
        summary: "The stream by WebSocket",
        text: describeSocket,
        who: "any user, for themselves"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(
    OpenApi.annotations({ title: "Events", description: "The events of a user's rooms, as they happen." })
  ) {}
