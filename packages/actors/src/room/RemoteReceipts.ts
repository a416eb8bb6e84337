/**
 * Sending other servers how far our users have read. The federation provides the service (`federation/OutgoingReceipts.ts`).
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Context, type Effect } from "effect"

/** Sends receipts to other servers, provided by `federation/OutgoingReceipts`. */
export class RemoteReceipts extends Context.Service<
  RemoteReceipts,
  {
    /** Receipts for these servers were stored (`ReceiptStore.publish`). Does not wait until they are sent. */
    readonly wake: (servers: ReadonlyArray<ServerName>) => Effect.Effect<void>
  }
>()("greenroom/actors/room/RemoteReceipts") {}
