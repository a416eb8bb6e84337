/**
 * Typed clients of a Matrix home server. Each module is also a subpath of its own, as in `@greenroom/client/GreenroomClient`.
 */
export * from "./ConnectionError.ts"
export * from "./GreenroomClient.ts"
export * from "./GreenroomSocket.ts"
export { MatrixClient, type MatrixClientOptions, type MatrixClientShape } from "./MatrixClient.ts"
export * from "./SyncAnswer.ts"
