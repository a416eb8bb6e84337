/**
 * The versions of the rooms that this server knows, and the dialect of federation that follows from each.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { setNewest } from "@greenroom/store/BoundedMap"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"

/** The two ways in which servers speak of rooms: the draft's, for rooms of its version, and today's. */
export type Dialect = "draft" | "today"

/** How many rooms' versions are remembered. */
const rememberedVersions = 20_000

/** The error for a room that does not exist for the caller. */
export const noSuchRoom = (roomId: RoomId) => new NotFound({ error: `There is no room ${roomId}` })

export const makeKnownVersions = Effect.gen(function* () {
  const rooms = yield* RoomStore

  /** The versions of rooms in which this server takes part. Those never change; the version of any other room is the claim of an invite. */
  const knownVersions = new Map<RoomId, RoomVersion>()

  const findVersion = Effect.fnUntraced(function* (roomId: RoomId) {
    const remembered = knownVersions.get(roomId)
    if (remembered !== undefined) return remembered
    const id = yield* rooms.version(roomId)
    const version = Option.isSome(id) ? roomVersion(id.value) : undefined
    if (version === undefined || !(yield* rooms.exists(roomId))) return version
    setNewest(knownVersions, roomId, version, rememberedVersions)
    return version
  })

  /** The versions of those of the rooms that this server knows. */
  const versionsOf = Effect.fnUntraced(function* (roomIds: Iterable<RoomId>) {
    const found = new Map<RoomId, RoomVersion>()
    for (const roomId of new Set(roomIds)) {
      const version = yield* findVersion(roomId)
      if (version !== undefined) found.set(roomId, version)
    }
    return found
  })

  const requireDialect = Effect.fnUntraced(function* (roomId: RoomId, dialect: Dialect) {
    const version = yield* findVersion(roomId)
    if (version !== undefined && isDraft(version) !== (dialect === "draft")) return yield* noSuchRoom(roomId)
  })

  return { findVersion, requireDialect, versionsOf }
})

export type KnownVersions = Effect.Success<typeof makeKnownVersions>
