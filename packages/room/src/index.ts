/**
 * The rules of rooms, for each room version: event formats, authorisation, state resolution, redaction, signing. Pure
 * functions. Each module is also a subpath of its own, as in `@greenroom/room/Signing`.
 */
export * as AuthChains from "./AuthChains.ts"
export * as CanonicalJson from "./CanonicalJson.ts"
export * as ContentHash from "./ContentHash.ts"
export * as DraftRoomVersion from "./DraftRoomVersion.ts"
export * as EventGraph from "./EventGraph.ts"
export * as LevelKeys from "./LevelKeys.ts"
export * as OutsiderRules from "./OutsiderRules.ts"
export * as PduSize from "./PduSize.ts"
export * as RoomPolicy from "./RoomPolicy.ts"
export * as RoomPreset from "./RoomPreset.ts"
export * as RoomUpgrade from "./RoomUpgrade.ts"
export * as RoomVersion from "./RoomVersion.ts"
export * as RoomVersions from "./RoomVersions.ts"
export * as SharedParts from "./SharedParts.ts"
export * as Signing from "./Signing.ts"
export * as StateConflict from "./StateConflict.ts"
export * as StateResolution from "./StateResolution.ts"
export * as StateResolutionV1 from "./StateResolutionV1.ts"
