/**
 * The state of a room before an event, as another server knows it, without fetching events that are known here: the server
 * gives the IDs (`state_ids`), and the events that are unknown here are fetched. A few are fetched one by one (`event`);
 * if more are unknown, or one cannot be fetched, the whole state is fetched at once (`state`). The draft has the whole state
 * alone.
 *
 * Source: "Retrieving events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { StateAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { Effect } from "effect"
import { type KnownEvents, RemoteFailure, type RemoteState } from "../../room/RemoteRooms.ts"
import type { RemoteError } from "../RemoteError.ts"

/** Up to how many unknown events of a state are fetched one by one, and how many of them at a time. */
const maxSingly = 50
const atOnce = 4

/** The three requests; the last two are absent in the draft's dialect. */
export interface StateRequests {
  readonly state: (destination: ServerName, roomId: RoomId, at: EventId) => Effect.Effect<StateAnswer, RemoteError>
  readonly stateIds?: (
    destination: ServerName,
    roomId: RoomId,
    at: EventId
  ) => Effect.Effect<
    { readonly pdu_ids: ReadonlyArray<EventId>; readonly auth_chain_ids: ReadonlyArray<EventId> },
    RemoteError
  >
  readonly event: (destination: ServerName, eventId: EventId) => Effect.Effect<JsonObject, RemoteError>
}

/** The room, the event, and the server that is asked. */
export interface StateQuestion {
  readonly destination: ServerName
  readonly version: RoomVersion
  readonly roomId: RoomId
  readonly at: EventId
  /** The events that the room already has. Without it the whole state is fetched. */
  readonly known?: KnownEvents | undefined
}

/** The PDUs that belong to the room and pass the checks of form, signature and hash. */
type GoodEvents = (pdus: ReadonlyArray<JsonObject>) => Effect.Effect<ReadonlyArray<Event>>

const failed = ({ destination }: StateQuestion, reason: string) => new RemoteFailure({ destination, reason })

export const makeRemoteStates = (failureOf: (error: RemoteError) => RemoteFailure) => {
  const whole = Effect.fnUntraced(function* (requests: StateRequests, question: StateQuestion, good: GoodEvents) {
    const { at, destination, roomId } = question
    const { auth_chain, pdus } = yield* Effect.mapError(requests.state(destination, roomId, at), failureOf)
    return { state: yield* good(pdus), authChain: yield* good(auth_chain) } satisfies RemoteState
  })

  /** Fetches the events. Fails if one is missing: a state that lacks some is another state. */
  const singly = Effect.fnUntraced(function* (
    { event }: StateRequests,
    question: StateQuestion,
    good: GoodEvents,
    ids: ReadonlyArray<EventId>
  ) {
    const { destination } = question
    const isAbsent = (id: EventId) => failed(question, `${id} cannot be had`)
    const pdus = yield* Effect.forEach(ids, (id) => Effect.mapError(event(destination, id), () => isAbsent(id)), {
      concurrency: atOnce
    })
    const events = new Map((yield* good(pdus)).map((entry) => [entry.event_id, entry]))
    const missing = ids.find((id) => !events.has(id))
    return missing === undefined ? events : yield* isAbsent(missing)
  })

  const byIds = Effect.fnUntraced(function* (
    requests: StateRequests,
    stateIds: NonNullable<StateRequests["stateIds"]>,
    known: KnownEvents,
    question: StateQuestion,
    good: GoodEvents
  ) {
    const { at, destination, roomId } = question
    const { auth_chain_ids, pdu_ids } = yield* Effect.mapError(stateIds(destination, roomId, at), failureOf)
    const found = yield* known([...new Set([...pdu_ids, ...auth_chain_ids])])
    const unknown = [...new Set([...pdu_ids, ...auth_chain_ids])].filter((id) => !found.has(id))
    if (unknown.length > maxSingly) return yield* failed(question, `${unknown.length} events of the state are unknown`)
    const fetched = yield* singly(requests, question, good, unknown)
    return {
      state: pdu_ids.flatMap((id) => found.get(id) ?? fetched.get(id) ?? []),
      authChain: auth_chain_ids.flatMap((id) => fetched.get(id) ?? [])
    } satisfies RemoteState
  })

  return (
    requests: StateRequests,
    question: StateQuestion,
    good: GoodEvents
  ): Effect.Effect<RemoteState, RemoteFailure> => {
    const { stateIds } = requests
    const { known } = question
    if (stateIds === undefined || known === undefined) return whole(requests, question, good)
    return Effect.catch(byIds(requests, stateIds, known, question, good), (failure) =>
      Effect.mapError(whole(requests, question, good), (error) =>
        // A server that gave the IDs has the state, though it refuses the rest.
        failure.errcode === undefined ? failure : error
      )
    )
  }
}
