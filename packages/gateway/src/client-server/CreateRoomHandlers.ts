/**
 * Making and upgrading rooms, as calls of `PresetRooms` and `RoomUpgrades`.
 *
 * Source: "Creation" and "Room Upgrades" of the client-server specification.
 */
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import { PresetRooms } from "@greenroom/actors/room/PresetRooms"
import { RoomUpgrades } from "@greenroom/actors/room/RoomUpgrades"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { addressToInvite } from "./AddressToInvite.ts"

export const createRoomHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.createRoom", (handlers) =>
  withServices(function* () {
    const rooms = yield* PresetRooms
    const upgrades = yield* RoomUpgrades
    const invites = yield* ThirdPartyInvites
    return handlers
      .handle("createRoom", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const room = payload ?? {}
            const addresses = yield* Effect.forEach(room.invite_3pid ?? [], addressToInvite)
            yield* Effect.forEach(addresses, invites.check, { discard: true })
            const created = yield* rooms.create(session, {
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
            // The room exists by now, and the answer must name it.
            yield* Effect.forEach(
              addresses,
              (address) =>
                Effect.catch(invites.invite(session, created.room_id, address), ({ error }) =>
                  Effect.logWarning(`${created.room_id} was created, but an address could not be invited: ${error}`)
                ),
              { discard: true }
            )
            return created
          })
        )
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
