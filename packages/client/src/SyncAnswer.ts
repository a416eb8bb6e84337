/**
 * The answer to `/sync` of today's client API, as far as programs read it.
 *
 * Source: "Syncing" of the client-server specification.
 */
export type { SimpleEvent, SyncAnswer, SyncedRoom } from "@greenroom/protocol/client-server/SyncAnswer"
