/**
 * Making rooms.
 *
 * Source: "Creation" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, AnyPayload, body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText, EventType, StateKey } from "../api/Parameters.ts"
import { RoomId, UserId } from "../Identifiers.ts"
import { nullable } from "../Json.ts"

const maxInvites = 1_000
const maxInitialState = 1_000

/** The options of a new room. Every key is optional. */
export const CreateRoom = Schema.Struct({
  visibility: nullable(Schema.Literals(["public", "private"])),
  preset: nullable(Schema.Literals(["private_chat", "trusted_private_chat", "public_chat"])),
  room_alias_name: nullable(boundedText(255)),
  name: nullable(Schema.String),
  topic: nullable(Schema.String),
  invite: nullable(Schema.Array(UserId).check(Schema.isMaxLength(maxInvites))),
  invite_3pid: nullable(Schema.Array(AnyPayload).check(Schema.isMaxLength(maxInvites))),
  is_direct: nullable(Schema.Boolean),
  room_version: nullable(Schema.String),
  creation_content: nullable(AnyPayload),
  initial_state: nullable(
    Schema.Array(
      Schema.Struct({ type: EventType, state_key: Schema.optionalKey(StateKey), content: AnyPayload })
    ).check(Schema.isMaxLength(maxInitialState))
  ),
  power_level_content_override: nullable(AnyPayload)
}).annotate({ identifier: "CreatePresetRoom" })
export type CreateRoom = typeof CreateRoom.Type

/** The version of the room that replaces another one, and its creators beside the caller. */
export const UpgradeRoom = Schema.Struct({
  new_version: Schema.String,
  additional_creators: nullable(Schema.Array(UserId).check(Schema.isMaxLength(maxInvites)))
}).annotate({ identifier: "UpgradeRoom" })
export type UpgradeRoom = typeof UpgradeRoom.Type

export class CreateRoomApi extends HttpApiGroup.make("clientServer.createRoom")
  .add(
    HttpApiEndpoint.post("createRoom", "/v3/createRoom", {
      payload: [CreateRoom, Absent],
      success: body(Schema.Struct({ room_id: RoomId, room_alias: Schema.optionalKey(Schema.String) }))
    }).annotateMerge(
      documented({
        summary: "Create a room",
        text:
          "By a preset, with further state, in a room version. Errors: M_ROOM_IN_USE, M_UNSUPPORTED_ROOM_VERSION, " +
          "M_INVALID_ROOM_STATE if the rules refuse the requested state.",
        who: "any user"
      })
    )
  )
  .add(
    HttpApiEndpoint.post("upgradeRoom", "/v3/rooms/:roomId/upgrade", {
      params: { roomId: RoomId },
      payload: UpgradeRoom,
      success: body(Schema.Struct({ replacement_room: RoomId }))
    }).annotateMerge(
      documented({
        summary: "Replace a room by one of another version",
        text:
          "Settings, power levels, bans, rooms of a space and aliases of this server are copied; m.room.tombstone leads the " +
          "members to the new room. Errors: M_FORBIDDEN, M_UNSUPPORTED_ROOM_VERSION.",
        who: "members with the power level of m.room.tombstone"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Creating rooms" })) {}
