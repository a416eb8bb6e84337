/**
 * The room versions that this server speaks, each an event format, authorisation rules, a state resolution, and flags.
 */
import { draftRoomVersion } from "./DraftRoomVersion.ts"
import type { RoomVersion } from "./RoomVersion.ts"

const versions: ReadonlyMap<string, RoomVersion> = new Map([draftRoomVersion].map((version) => [version.id, version]))

/** The version of new rooms. */
export const defaultRoomVersion: RoomVersion = draftRoomVersion

/** The room version of this ID; undefined if this server does not speak it. */
export const roomVersion = (id: string): RoomVersion | undefined => versions.get(id)
