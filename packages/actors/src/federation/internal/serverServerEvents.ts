/**
 * Events and states of rooms, from other home servers.
 *
 * Source: "Retrieving events" and "Backfilling and retrieving missing events" of the server-server specification.
 */
import type { StateAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import { type EventId, isEventId, type RoomId, type ServerName } from "@greenroom/protocol/Identifiers"
import type { Effect } from "effect"
import { answerLimits, shortTimeoutFactor, withQuery } from "../FederationCalls.ts"
import type { RemoteError } from "../RemoteError.ts"
import { objects, readPdus, readState, readStateIds } from "./answers.ts"
import { type Calls, path } from "./serverServerCalls.ts"

export const eventEndpoints = ({ call }: Calls) => ({
  /** One event. */
  getEvent: (destination: ServerName, eventId: EventId) =>
    call({
      destination,
      method: "GET",
      uri: path("v1", "event", eventId),
      maxBytes: answerLimits.small,
      hasPdus: true,
      read: (answer) => readPdus(answer)?.[0]
    }),
  /** The state of a room before an event, with what authorises it. */
  getState: (destination: ServerName, roomId: RoomId, at: EventId): Effect.Effect<StateAnswer, RemoteError> =>
    call({
      destination,
      method: "GET",
      uri: withQuery(path("v1", "state", roomId), [["event_id", at]]),
      maxBytes: answerLimits.wholeState,
      timeoutFactor: 4,
      isCostly: true,
      hasPdus: true,
      read: readState
    }),
  /** The IDs of the same. */
  getStateIds: (destination: ServerName, roomId: RoomId, at: EventId) =>
    call({
      destination,
      method: "GET",
      uri: withQuery(path("v1", "state_ids", roomId), [["event_id", at]]),
      maxBytes: answerLimits.pages,
      timeoutFactor: 2,
      isCostly: true,
      read: readStateIds
    }),
  /** The auth chain of an event. */
  getEventAuth: (destination: ServerName, roomId: RoomId, eventId: EventId) =>
    call({
      destination,
      method: "GET",
      uri: path("v1", "event_auth", roomId, eventId),
      maxBytes: answerLimits.pages,
      hasPdus: true,
      read: (answer) => objects(answer.auth_chain)
    }),
  /** The events and what precedes them, newest first: at most `limit` beside the events. */
  backfill: (destination: ServerName, roomId: RoomId, from: ReadonlyArray<EventId>, limit: number) =>
    call({
      destination,
      method: "GET",
      uri: withQuery(path("v1", "backfill", roomId), [
        ...from.map((id) => ["v", id] as const),
        // The events themselves are part of the answer.
        ["limit", String(limit + from.length)]
      ]),
      maxBytes: answerLimits.pages,
      isCostly: true,
      hasPdus: true,
      read: (answer) => readPdus(answer)?.slice(0, limit + from.length)
    }),
  /** The events between two sets of events, at most `limit`. */
  getMissingEvents: (
    destination: ServerName,
    roomId: RoomId,
    earliest: ReadonlyArray<EventId>,
    latest: ReadonlyArray<EventId>,
    limit: number
  ) =>
    call({
      destination,
      method: "POST",
      uri: path("v1", "get_missing_events", roomId),
      content: { earliest_events: earliest, latest_events: latest, limit },
      maxBytes: answerLimits.pages,
      isCostly: true,
      hasPdus: true,
      // A server that has nothing to give may leave the list out.
      read: (answer) => objects(answer.events ?? [])?.slice(0, limit)
    }),
  /** The ID of the event closest to a time, in ms since 1970. */
  timestampToEvent: (destination: ServerName, roomId: RoomId, ts: number, direction: "f" | "b") =>
    call({
      destination,
      method: "GET",
      uri: withQuery(path("v1", "timestamp_to_event", roomId), [
        ["ts", String(ts)],
        ["dir", direction]
      ]),
      maxBytes: answerLimits.small,
      timeoutFactor: shortTimeoutFactor,
      read: ({ event_id }) => (isEventId(event_id) ? event_id : undefined)
    })
})
