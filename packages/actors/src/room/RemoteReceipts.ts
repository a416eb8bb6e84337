/**
 * Telling other servers how far our users have read. The federation provides the service (`federation/OutgoingReceipts.ts`).
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, type Effect } from "effect"

/** A public receipt of a user of this server. */
export interface PublicReceipt {
  readonly roomId: RoomId
  readonly userId: UserId
  readonly eventId: EventId
  /** Milliseconds since 1970. */
  readonly ts: number
  readonly threadId?: string | undefined
}

export class RemoteReceipts extends Context.Service<
  RemoteReceipts,
  {
    /** Does not wait until the other servers of the room have it; servers that cannot be reached never do. */
    readonly send: (receipt: PublicReceipt) => Effect.Effect<void>
  }
>()("greenroom/actors/room/RemoteReceipts") {}
