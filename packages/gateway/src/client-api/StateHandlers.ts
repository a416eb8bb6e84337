/**
 * The state of rooms, as calls of `Rooms`.
 *
 * Source: "Room structure" and "State messages" of the draft.
 */
import { Rooms } from "@greenroom/actors/room/Rooms"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "./EndpointServices.ts"

export const stateHandlers = HttpApiBuilder.group(ClientApi, "state", (handlers) =>
  withServices(function* () {
    const rooms = yield* Rooms
    return handlers
      .handle("getAll", ({ params }) => CurrentSession.use((session) => rooms.getFullState(session, params.roomId)))
      .handle("get", ({ params }) =>
        CurrentSession.use((session) => rooms.getState(session, params.roomId, params.type, ""))
      )
      .handle("getByKey", ({ params }) =>
        CurrentSession.use((session) => rooms.getState(session, params.roomId, params.type, params.stateKey))
      )
      .handle("set", ({ params, payload }) =>
        CurrentSession.use((session) => rooms.setState(session, params.roomId, params.type, "", payload))
      )
      .handle("setByKey", ({ params, payload }) =>
        CurrentSession.use((session) => rooms.setState(session, params.roomId, params.type, params.stateKey, payload))
      )
  })
)
