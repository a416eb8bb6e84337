/**
 * Creating rooms, sending to them and reading back, as calls of `Rooms`.
 *
 * Source: "Rooms", "Messages" and "Typing notifications" of the draft.
 */

import { Rooms } from "@greenroom/actors/room/Rooms"
import { RoomUpgrades } from "@greenroom/actors/room/RoomUpgrades"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "./EndpointServices.ts"
import { pagination } from "./Paging.ts"

export const roomsHandlers = HttpApiBuilder.group(ClientApi, "rooms", (handlers) =>
  withServices(function* () {
    const rooms = yield* Rooms
    const upgrades = yield* RoomUpgrades
    return handlers
      .handle("createRoom", ({ payload }) => CurrentSession.use((session) => rooms.create(session, payload ?? {})))
      .handle("createRoomWithTransaction", ({ params, payload }) =>
        CurrentSession.use((session) => rooms.create(session, payload ?? {}, params.txnId))
      )
      .handle("send", ({ params, payload }) =>
        CurrentSession.use((session) => rooms.send(session, params.roomId, params.type, payload))
      )
      .handle("sendWithTransaction", ({ params, payload }) =>
        CurrentSession.use((session) => rooms.send(session, params.roomId, params.type, payload, params.txnId))
      )
      .handle("messages", ({ params, query }) =>
        CurrentSession.use((session) =>
          Effect.flatMap(pagination(query), ({ from, to, limit, dir }) =>
            rooms.messages(session, params.roomId, {
              ...(from === undefined ? {} : { from }),
              ...(to === undefined ? {} : { to }),
              ...(limit === undefined ? {} : { limit }),
              ...(dir === undefined ? {} : { dir }),
              feedback: query.feedback === "true" || query.feedback === "1"
            })
          )
        )
      )
      .handle("upgrade", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.map(
            upgrades.upgrade(session, params.roomId, { newVersion: payload.new_version }),
            (replacement_room) => ({ replacement_room })
          )
        )
      )
      .handle("redact", ({ params, payload }) =>
        CurrentSession.use((session) => rooms.redact(session, params.roomId, params.eventId, payload ?? {}))
      )
      .handle("redactWithTransaction", ({ params, payload }) =>
        CurrentSession.use((session) =>
          rooms.redact(session, params.roomId, params.eventId, payload ?? {}, params.txnId)
        )
      )
      .handle("typing", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(
            rooms.setTyping(session, params.roomId, params.userId, Boolean(payload.typing), payload.timeout),
            done
          )
        )
      )
  })
)
