/**
 * The event stream of a user: everything that happened since a token, and waiting for what happens next. One reader per
 * node follows the event log; it wakes the users concerned. Long poll and WebSocket both stand on this service.
 *
 * Source: "Receiving live updates on a client" of the draft.
 */
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer, type Stream } from "effect"
import type { PresenceEvent } from "../presence/PresenceContent.ts"
import type { RoomSnapshot } from "../room/RoomModel.ts"
import type { Session } from "../runtime/Session.ts"
import type { StreamChunk, StreamedEvent, Subscription } from "./EventStream.ts"
import { makeEventReader } from "./internal/EventReader.ts"

/** The event stream and the initial synchronisation of the API of 2014. */
export class Events extends Context.Service<
  Events,
  {
    /**
     * Waits up to `timeout` ms (0 returns at once) for something after `from`. `from` undefined or `END`: from now on;
     * `START`: from the beginning of what the user may see. Errors: M_BAD_PAGINATION for a token that is none of ours.
     */
    readonly poll: (
      session: Session,
      options: { readonly from?: string; readonly timeout: number; readonly limit?: number }
    ) => Effect.Effect<StreamChunk, MatrixError>
    /** The stream from a token on, pulled by the caller: nothing is buffered beyond what the caller asks for. */
    readonly subscribe: (session: Session, from?: string) => Effect.Effect<Subscription, MatrixError>
    /** The stream as values, for embedding programs. */
    readonly stream: (session: Session, from?: string) => Stream.Stream<StreamedEvent, MatrixError>
    /** All rooms of the user, with `limit` messages each (default 10), and the token from which the stream continues. */
    readonly initialSync: (
      session: Session,
      limit?: number
    ) => Effect.Effect<
      {
        readonly end: string
        readonly presence: ReadonlyArray<PresenceEvent>
        readonly rooms: ReadonlyArray<RoomSnapshot>
      },
      MatrixError
    >
  }
>()("greenroom/actors/Events") {
  static readonly layer = Layer.effect(Events, Effect.map(makeEventReader, Events.of))
}
