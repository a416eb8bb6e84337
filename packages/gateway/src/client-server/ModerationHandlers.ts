/**
 * Moderation of accounts, as calls of `Moderation`.
 *
 * Source: "Server Administration" of the client-server specification.
 */
import type { Device } from "@greenroom/actors/account/Credentials"
import { Moderation } from "@greenroom/actors/account/Moderation"
import { AuditLog } from "@greenroom/actors/admin/AuditLog"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
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
    const audit = yield* AuditLog
    /** Changes the standing of an account. An allowed change is in the audit log before it happens. */
    const setStanding = (userId: UserId, action: string, change: { readonly [name: string]: boolean }) =>
      CurrentSession.use((session) =>
        moderation
          .standing(session, userId)
          .pipe(
            Effect.andThen(audit.record({ actor: session.userId, action, target: userId, details: change })),
            Effect.andThen(moderation.setStanding(session, userId, change))
          )
      )
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
        Effect.as(setStanding(params.userId, "user.lock", { locked }), { locked })
      )
      .handle("suspended", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.map(moderation.standing(session, params.userId), ({ suspended }) => ({ suspended }))
        )
      )
      .handle("suspend", ({ params, payload: { suspended } }) =>
        Effect.as(setStanding(params.userId, "user.suspend", { suspended }), { suspended })
      )
  })
)
