/**
 * Making and upgrading rooms, as calls of `PresetRooms` and `RoomUpgrades`.
 *
 * Source: "Creation" and "Room Upgrades" of the client-server specification.
 */
import { PresetRooms } from "@greenroom/actors/room/PresetRooms"
import { RoomUpgrades } from "@greenroom/actors/room/RoomUpgrades"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { BadRequest } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

export const createRoomHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.createRoom", (handlers) =>
  withServices(function* () {
    const rooms = yield* PresetRooms
    const upgrades = yield* RoomUpgrades
    return handlers
      .handle("createRoom", ({ payload }) =>
        CurrentSession.use((session) => {
          const room = payload ?? {}
          if (room.invite_3pid != null && room.invite_3pid.length > 0) {
            return Effect.fail(new BadRequest({ error: "invite_3pid: addresses are invited once the room is there" }))
          }
          return rooms.create(session, {
            visibility: room.visibility ?? undefined,
            preset: room.preset ?? undefined,
            aliasName: room.room_alias_name || undefined,
            name: room.name || undefined,
            topic: room.topic || undefined,
            invite: room.invite ?? undefined,
            isDirect: room.is_direct ?? undefined,
            version: room.room_version ?? undefined,
            creationContent: room.creation_content ?? undefined,
            initialState: room.initial_state?.map(({ content, state_key = "", type }) => ({
              type,
              state_key,
              content
            })),
            powerLevels: room.power_level_content_override ?? undefined
          })
        })
      )
      .handle("upgradeRoom", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.map(
            upgrades.upgrade(session, params.roomId, {
              newVersion: payload.new_version,
              additionalCreators: payload.additional_creators ?? undefined
            }),
            (replacement_room) => ({ replacement_room })
          )
        )
      )
  })
)
