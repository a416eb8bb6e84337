/**
 * Moderation of accounts, as calls of `Moderation`.
 *
 * Source: "Server Administration" of the client-server specification.
 */
import type { Device } from "@greenroom/actors/account/Credentials"
import { Moderation } from "@greenroom/actors/account/Moderation"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeAsAdmin } from "../admin/AdminAction.ts"
import { withServices } from "../client-api/EndpointServices.ts"

const toConnections = ({ last_seen_ip, last_seen_ts }: Device) => ({
  sessions: [
    { connections: [{ last_seen: last_seen_ts, ...(last_seen_ip === undefined ? {} : { ip: last_seen_ip }) }] }
  ]
})

export const moderationHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.moderation", (handlers) =>
  withServices(function* () {
    const moderation = yield* Moderation
    const asAdmin = yield* makeAsAdmin

    const standing = (userId: UserId) =>
      CurrentSession.use((session) =>
        asAdmin({ action: "user.show", target: userId }, () => moderation.standing(session, userId))
      )

    const setStanding = (userId: UserId, action: string, change: { readonly [name: string]: boolean }) =>
      CurrentSession.use((session) =>
        asAdmin({ action, target: userId, details: change }, () => moderation.setStanding(session, userId, change))
      )

    /** The devices of the caller, or as an administrator those of another user. */
    const devices = (userId: UserId) =>
      CurrentSession.use((session) => {
        const found = moderation.devices(session, userId)
        return session.userId === userId ? found : asAdmin({ action: "user.whois", target: userId }, () => found)
      })

    return handlers
      .handle("whois", ({ params: { userId } }) =>
        Effect.map(devices(userId), (found) => ({
          user_id: userId,
          devices: Object.fromEntries(found.map((device) => [device.device_id, toConnections(device)]))
        }))
      )
      .handle("locked", ({ params }) => Effect.map(standing(params.userId), ({ locked }) => ({ locked })))
      .handle("lock", ({ params, payload: { locked } }) =>
        Effect.as(setStanding(params.userId, "user.lock", { locked }), { locked })
      )
      .handle("suspended", ({ params }) => Effect.map(standing(params.userId), ({ suspended }) => ({ suspended })))
      .handle("suspend", ({ params, payload: { suspended } }) =>
        Effect.as(setStanding(params.userId, "user.suspend", { suspended }), { suspended })
      )
  })
)
