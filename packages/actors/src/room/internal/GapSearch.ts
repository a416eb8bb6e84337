/**
 * What a search for the events before those of another server has found so far. The steps of the search share it:
 * `GapPredecessors`, `GapStates`.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { isRefusal, type RemoteFailure, type RemoteState } from "../RemoteRooms.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"

/** How many events, and after how many, one question names. */
export const maxNamed = 20

/** Whether an event has a place in the graph, so that others can follow it. */
export const isPlaced = (known: KnownEvent | undefined): boolean => known?.after !== undefined

export class GapSearch {
  readonly room: RoomState
  readonly origin: ServerName
  readonly received: ReadonlyArray<Event>
  /** Whether the origin has sent the events, and so has what they follow. Another server may have none of them. */
  readonly isSender: boolean
  /** The received events, and those found before them. */
  readonly batch: Map<EventId, Event>
  /** The events of `batch` that are history for this server. */
  readonly history = new Set<EventId>()
  /** The states before events whose predecessors were not found. */
  readonly states = new Map<EventId, RemoteState>()
  /** The events of `states`. */
  readonly given = new Map<EventId, Event>()
  /** The events before which the state was asked for. */
  readonly statesAsked = new Set<EventId>()
  readonly authEvents = new Map<EventId, Event>()
  /** The events that the origin did not give when it was asked for them. */
  readonly absent = new Set<EventId>()
  /**
   * Predecessors of the received events that the origin did not give when it was asked for what is missing before those. It
   * has them, so its events are not placed without them: a state that it names instead could be invented.
   */
  readonly withheld = new Set<EventId>()
  /** The origin gave events whose predecessors are missing, and no more: it is asked for the state at those, as Synapse does. */
  endsHere = false
  /** The origin did not answer a question, or failed. */
  failed = false
  /** The origin answered that this server may not ask: it considers this one outside the room. */
  refused = false

  constructor(room: RoomState, origin: ServerName, received: ReadonlyArray<Event>, isSender: boolean) {
    this.room = room
    this.origin = origin
    this.received = received
    this.isSender = isSender
    this.batch = new Map(received.map((event) => [event.event_id, event]))
  }

  /** Notes that the origin does not let this server ask. */
  notingRefusal<A>(answer: Effect.Effect<A, RemoteFailure>): Effect.Effect<A, RemoteFailure> {
    return Effect.tapError(answer, ({ status }) =>
      Effect.sync(() => {
        this.refused ||= status === 403
      })
    )
  }

  /** As `notingRefusal`, and notes a failure that is no refusal. */
  noting<A>(answer: Effect.Effect<A, RemoteFailure>): Effect.Effect<A, RemoteFailure> {
    return Effect.tapError(this.notingRefusal(answer), (failure) =>
      Effect.sync(() => {
        this.failed ||= !isRefusal(failure)
      })
    )
  }
}
