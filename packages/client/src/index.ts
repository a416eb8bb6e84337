/**
 * Typed clients of a Matrix home server. Each module is also a subpath of its own, as in `@greenroom/client/GreenroomClient`.
 */
export type { SimpleEvent, SyncAnswer, SyncedRoom } from "@greenroom/protocol/client-server/SyncAnswer"
export * from "./ConnectionError.ts"
export * from "./GreenroomClient.ts"
export * from "./GreenroomSocket.ts"
export * from "./MatrixClient.ts"
