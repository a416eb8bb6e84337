/**
 * The form in which a filter wants the events of a room: as PDUs or not, with all or some of their fields.
 *
 * Source: `event_fields` and `event_format` of "Filtering" of the client-server specification.
 */
import { compileFields, type Filter } from "@greenroom/protocol/client-server/Filter"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"

export const makeEventFormats = Effect.gen(function* () {
  const rooms = yield* RoomStore

  return Effect.fnUntraced(function* ({ event_fields, event_format }: Filter, roomId: RoomId) {
    const version = event_format === "federation" ? Option.getOrUndefined(yield* rooms.version(roomId)) : undefined
    return { pick: compileFields(event_fields), toPdu: version === undefined ? undefined : roomVersion(version)?.toPdu }
  })
})
