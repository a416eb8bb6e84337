/**
 * The listeners of a home server, and what its programs have in common. Each module is also a subpath of its own, as in
 * `@greenroom/gateway/Gateway`.
 */

export { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
export * as ChangesRunToEnd from "./ChangesRunToEnd.ts"
export { Gateway } from "./Gateway.ts"
export { GatewayVersion } from "./GatewayVersion.ts"
export * as HeapSize from "./HeapSize.ts"
export * as KnownPaths from "./KnownPaths.ts"
export * as Logging from "./Logging.ts"
export * as MatrixHttp from "./MatrixHttp.ts"
export { MatrixRequest } from "./MatrixRequest.ts"
export * as MediaResponse from "./MediaResponse.ts"
export * as NodeServer from "./NodeServer.ts"
export * as ProgramSettings from "./ProgramSettings.ts"
export { RateLimit } from "./RateLimit.ts"
export { RequestSlots } from "./RequestSlots.ts"
export * as RunProgram from "./RunProgram.ts"
export type { Setting } from "./Setting.ts"
export * as SettingSources from "./SettingSources.ts"
export * as SettingsCommand from "./SettingsCommand.ts"
export { Shutdown } from "./Shutdown.ts"
export type { TrustedProxies } from "./TrustedProxies.ts"
export { UnreadAnswers } from "./UnreadAnswers.ts"
export * as UploadRequest from "./UploadRequest.ts"
