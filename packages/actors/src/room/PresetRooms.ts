/**
 * Rooms as clients of today ask for them: by a preset, with state of their own, in a version.
 *
 * Source: "Creation" of the client-server specification.
 */
import { formatRoomAlias, isRoomId, type RoomAlias, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, InvalidRoomState, type MatrixError, UnsupportedRoomVersion } from "@greenroom/protocol/MatrixError"
import { checkPreset, type RoomPreset, roomSeed, type SeedEvent } from "@greenroom/room/RoomPreset"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { Context, Effect, Layer } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { RoomSuccession } from "./RoomSuccession.ts"
import { Rooms } from "./Rooms.ts"

/** The body of `createRoom` of today's client API. */
export interface PresetRoom {
  readonly visibility?: "public" | "private" | undefined
  readonly preset?: RoomPreset | undefined
  /** Localpart of an alias on this server, without `#`. */
  readonly aliasName?: string | undefined
  readonly name?: string | undefined
  readonly topic?: string | undefined
  readonly invite?: ReadonlyArray<UserId> | undefined
  readonly isDirect?: boolean | undefined
  readonly version?: string | undefined
  readonly creationContent?: JsonObject | undefined
  readonly initialState?: ReadonlyArray<SeedEvent> | undefined
  readonly powerLevels?: JsonObject | undefined
}

/** The version of new rooms where neither the client nor the operator names one. */
export const newestRoomVersion = "12"

/** The room that a new one replaces, where the client upgrades a room by hand. */
const predecessorIn = (content: JsonObject | undefined): RoomId | undefined => {
  const predecessor = content?.predecessor
  return isJsonObject(predecessor) && isRoomId(predecessor.room_id) ? predecessor.room_id : undefined
}

/** Creates rooms by the presets of today's client API. */
export class PresetRooms extends Context.Service<
  PresetRooms,
  {
    /**
     * Any user. Errors: M_UNSUPPORTED_ROOM_VERSION, M_INVALID_ROOM_STATE if the rules do not allow the state that was
     * asked for, M_ROOM_IN_USE, M_BAD_JSON. With `txnId`, a repeat returns the first room.
     */
    readonly create: (
      session: Session,
      room: PresetRoom,
      txnId?: string
    ) => Effect.Effect<{ readonly room_id: RoomId; readonly room_alias?: RoomAlias }, MatrixError>
  }
>()("greenroom/actors/PresetRooms") {
  static readonly layer = Layer.effect(
    PresetRooms,
    Effect.gen(function* () {
      const { defaultRoomVersion = newestRoomVersion, serverName } = yield* HomeServerConfig
      const rooms = yield* Rooms
      const profiles = yield* ProfileStore
      const succession = yield* RoomSuccession

      const create = Effect.fn("PresetRooms.create")(function* (session: Session, room: PresetRoom, txnId?: string) {
        const id = room.version ?? defaultRoomVersion
        const version = roomVersion(id)
        if (version === undefined) {
          return yield* new UnsupportedRoomVersion({ error: `room_version: ${id.slice(0, 64)} is not known here` })
        }
        const { aliasName, invite = [], isDirect, visibility = "private" } = room
        const options = {
          creator: session.userId,
          creatorProfile: { ...(yield* profiles.publicProfile(session.userId)) },
          preset: room.preset ?? (visibility === "public" ? "public_chat" : "private_chat"),
          name: room.name,
          topic: room.topic,
          alias: aliasName === undefined ? undefined : formatRoomAlias(aliasName, serverName),
          invite,
          creationContent: room.creationContent,
          initialState: room.initialState,
          powerLevels: room.powerLevels
        }
        const problem = checkPreset(options)
        if (problem !== undefined) return yield* new BadJson({ error: problem })
        const seeded = {
          version,
          seed: roomSeed(options, version),
          listed: visibility === "public",
          invite,
          ...(isDirect === undefined ? {} : { isDirect }),
          ...(aliasName === undefined ? {} : { aliasName })
        }
        const created = yield* Effect.catchTag(rooms.createSeeded(session, seeded, txnId), "M_FORBIDDEN", ({ error }) =>
          Effect.fail(new InvalidRoomState({ error }))
        )
        const predecessor = predecessorIn(room.creationContent)
        if (predecessor !== undefined) yield* succession.inherit(session.userId, predecessor, created.room_id)
        return created
      })

      return PresetRooms.of({ create })
    })
  )
}
