/**
 * What administrators do about accounts, as calls of `Moderation`.
 *
 * Source: "Server Administration" of the client-server specification.
 */
import type { Device } from "@greenroom/actors/account/Accounts"
import { Moderation } from "@greenroom/actors/account/Moderation"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

const toConnections = ({ last_seen_ip, last_seen_ts }: Device) => ({
  sessions: [
    { connections: [{ last_seen: last_seen_ts, ...(last_seen_ip === undefined ? {} : { ip: last_seen_ip }) }] }
  ]
})

export const moderationHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.moderation", (handlers) =>
  withServices(function* () {
    const moderation = yield* Moderation
    return handlers
      .handle("whois", ({ params: { userId } }) =>
        CurrentSession.use((session) =>
          Effect.map(moderation.devices(session, userId), (devices) => ({
            user_id: userId,
            devices: Object.fromEntries(devices.map((device) => [device.device_id, toConnections(device)]))
          }))
        )
      )
      .handle("locked", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.map(moderation.standing(session, params.userId), ({ locked }) => ({ locked }))
        )
      )
      .handle("lock", ({ params, payload: { locked } }) =>
        CurrentSession.use((session) =>
          Effect.as(moderation.setStanding(session, params.userId, { locked }), { locked })
        )
      )
      .handle("suspended", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.map(moderation.standing(session, params.userId), ({ suspended }) => ({ suspended }))
        )
      )
      .handle("suspend", ({ params, payload: { suspended } }) =>
        CurrentSession.use((session) =>
          Effect.as(moderation.setStanding(session, params.userId, { suspended }), { suspended })
        )
      )
  })
)
