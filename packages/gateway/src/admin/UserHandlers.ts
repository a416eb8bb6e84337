/**
 * Users, as calls of `Administration` and `UserAdministration`.
 *
 * Source: "User Admin API" of Synapse's documentation.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { Administration } from "@greenroom/actors/account/Administration"
import { MediaAdministration } from "@greenroom/actors/admin/MediaAdministration"
import { RoomAdministration } from "@greenroom/actors/admin/RoomAdministration"
import { UserAdministration } from "@greenroom/actors/admin/UserAdministration"
import { UserRedactions } from "@greenroom/actors/admin/UserRedactions"
import { MediaKeeping } from "@greenroom/actors/media/MediaKeeping"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import type { UserQuery } from "@greenroom/protocol/admin/SynapseUsers"
import type { RoomAlias, RoomId } from "@greenroom/protocol/Identifiers"
import { Forbidden, NotFound } from "@greenroom/protocol/MatrixError"
import { Context, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { flagOf, makeAdminActions } from "./AdminAction.ts"
import { fromRate, makeUserRequests } from "./UserRequests.ts"

/** How many events of each room are redacted where a request does not say it. */
const defaultRedactions = 1_000

export const userHandlers = HttpApiBuilder.group(SynapseAdminApi, "synapseAdmin.users", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const accounts = yield* Accounts
    const administration = yield* Administration
    const keeping = yield* MediaKeeping
    const users = Context.get(services, UserAdministration)
    const rooms = Context.get(services, RoomAdministration)
    const media = Context.get(services, MediaAdministration)
    const redactions = Context.get(services, UserRedactions)

    const { deactivate, detailsOf, devicesOf, endDevice, mustBeOurs, mustNotBeSelf, ...requests } =
      yield* makeUserRequests

    const list = (query: UserQuery, deactivated: boolean | undefined) =>
      asAdmin({ action: "user.list", details: { ...query } }, () => requests.list(query, deactivated))

    return handlers
      .handle("list", ({ query }) => list(query, query.deactivated === "true" ? undefined : false))
      .handle("listV3", ({ query }) => list(query, flagOf(query.deactivated)))
      .handle("get", ({ params: { userId } }) =>
        asAdmin({ action: "user.show", target: userId }, () => detailsOf(userId))
      )
      .handle("put", ({ params: { userId }, payload }) => {
        const { password: _, ...details } = payload
        return asAdmin({ action: "user.set", target: userId, details }, (admin) => requests.put(admin, userId, payload))
      })
      .handle("devices", ({ params: { userId } }) =>
        asAdmin({ action: "user.devices", target: userId }, () =>
          Effect.map(devicesOf(userId), (devices) => ({ devices, total: devices.length }))
        )
      )
      .handle("deleteDevices", ({ params: { userId }, payload: { devices } }) =>
        asAdmin({ action: "user.logout", target: userId, details: { devices } }, () =>
          Effect.gen(function* () {
            yield* users.find(userId)
            yield* Effect.forEach(devices, (deviceId) => endDevice(userId, deviceId), { discard: true })
            return {}
          })
        )
      )
      .handle("device", ({ params: { deviceId, userId } }) =>
        asAdmin({ action: "user.devices", target: userId, details: { device: deviceId } }, () =>
          Effect.flatMap(devicesOf(userId), (devices) => {
            const found = devices.find(({ device_id }) => device_id === deviceId)
            return found === undefined
              ? Effect.fail(new NotFound({ error: "There is no such device" }))
              : Effect.succeed(found)
          })
        )
      )
      .handle("renameDevice", ({ params: { deviceId, userId }, payload }) =>
        asAdmin({ action: "user.rename_device", target: userId, details: { device: deviceId } }, () =>
          Effect.as(accounts.renameDevice(userId, deviceId, payload.display_name ?? undefined), {})
        )
      )
      .handle("deleteDevice", ({ params: { deviceId, userId } }) =>
        asAdmin({ action: "user.logout", target: userId, details: { devices: [deviceId] } }, () =>
          Effect.as(Effect.andThen(users.find(userId), endDevice(userId, deviceId)), {})
        )
      )
      .handle("joinedRooms", ({ params: { userId } }) =>
        asAdmin({ action: "user.rooms", target: userId }, () =>
          Effect.map(users.joinedRooms(userId), (joined) => ({ joined_rooms: joined, total: joined.length }))
        )
      )
      .handle("memberships", ({ params: { userId } }) =>
        asAdmin({ action: "user.show", target: userId }, () =>
          Effect.map(users.memberships(userId), (memberships) => ({ memberships }))
        )
      )
      .handle("pushers", ({ params: { userId } }) =>
        asAdmin({ action: "user.pushers", target: userId }, () =>
          Effect.map(users.pushers(userId), (pushers) => ({ pushers, total: pushers.length }))
        )
      )
      .handle("deactivate", ({ params: { userId }, payload }) =>
        asAdmin({ action: "user.deactivate", target: userId, details: { erase: payload?.erase ?? false } }, () =>
          Effect.as(deactivate(userId, payload?.erase ?? false), { id_server_unbind_result: "no-support" })
        )
      )
      .handle("resetPassword", ({ params: { userId }, payload }) =>
        asAdmin({ action: "user.reset_password", target: userId }, () =>
          Effect.as(requests.setPassword(userId, payload.new_password, payload.logout_devices ?? true), {})
        )
      )
      .handle("isAdmin", ({ params: { userId } }) =>
        asAdmin({ action: "user.show", target: userId }, () =>
          Effect.map(users.find(userId), ({ admin }) => ({ admin }))
        )
      )
      .handle("setAdmin", ({ params: { userId }, payload: { admin } }) =>
        asAdmin({ action: "user.set_admin", target: userId, details: { admin } }, (self) =>
          Effect.gen(function* () {
            if (!admin) yield* mustNotBeSelf(self, userId, "admin: you may not demote yourself")
            yield* administration.setAdmin(userId, admin)
            return {}
          })
        )
      )
      .handle("suspend", ({ params: { userId }, payload: { suspend } }) =>
        asAdmin({ action: "user.suspend", target: userId, details: { suspend } }, (self) =>
          Effect.gen(function* () {
            yield* mustNotBeSelf(self, userId, "You may not suspend yourself")
            yield* users.setStanding(userId, { suspended: suspend })
            return { [`user_${userId}_suspended`]: suspend }
          })
        )
      )
      .handle("rate", ({ params: { userId } }) =>
        asAdmin({ action: "user.show", target: userId }, () =>
          Effect.map(users.rateOf(userId), (rate) => (rate === undefined ? {} : fromRate(rate)))
        )
      )
      .handle("setRate", ({ params: { userId }, payload }) => {
        const rate = {
          messagesPerSecond: payload?.messages_per_second ?? 0,
          burstCount: payload?.burst_count ?? 0
        }
        return asAdmin({ action: "user.set_rate", target: userId, details: fromRate(rate) }, () =>
          Effect.as(users.setStanding(userId, { rate }), fromRate(rate))
        )
      })
      .handle("removeRate", ({ params: { userId } }) =>
        asAdmin({ action: "user.remove_rate", target: userId }, () =>
          Effect.as(users.setStanding(userId, { rate: null }), {})
        )
      )
      .handle("logIn", ({ params: { userId } }) =>
        asAdmin({ action: "user.log_in_as", target: userId }, (self) =>
          Effect.gen(function* () {
            yield* mustNotBeSelf(self, userId, "Use /login to log in as yourself")
            const { admin } = yield* users.find(userId)
            if (admin) return yield* new Forbidden({ error: "Administrators cannot log in as another administrator" })
            return yield* users.logIn(userId)
          })
        )
      )
      .handle("whois", ({ params: { userId } }) =>
        asAdmin({ action: "user.whois", target: userId }, () =>
          Effect.map(devicesOf(userId), (devices) => ({
            user_id: userId,
            devices: Object.fromEntries(
              devices.map(({ device_id, last_seen_ip, last_seen_ts }) => [
                device_id,
                { sessions: [{ connections: [{ ip: last_seen_ip, last_seen: last_seen_ts, user_agent: null }] }] }
              ])
            )
          }))
        )
      )
      .handle("usernameAvailable", ({ query: { username } }) =>
        asAdmin({ action: "user.name_available", details: { username } }, () =>
          Effect.as(accounts.chooseUserId(username), { available: true })
        )
      )
      .handle("byAddress", ({ params: { address, medium } }) =>
        asAdmin({ action: "user.by_address", details: { medium, address } }, () =>
          Effect.map(users.byAddress({ medium, address }), (user_id) => ({ user_id }))
        )
      )
      .handle("bySubject", ({ params: { externalId, provider } }) =>
        asAdmin({ action: "user.by_subject", details: { provider, subject: externalId } }, () =>
          Effect.map(users.bySubject({ provider, subject: externalId }), (user_id) => ({ user_id }))
        )
      )
      .handle("media", ({ params: { userId }, query }) =>
        asAdmin({ action: "user.media", target: userId }, () => requests.pageOfMedia(userId, query))
      )
      .handle("deleteMedia", ({ params: { userId } }) =>
        asAdmin({ action: "media.delete_of_user", target: userId }, () =>
          Effect.gen(function* () {
            yield* users.find(userId)
            const ids = (yield* media.uploadsOf(userId)).map(({ mediaId }) => mediaId)
            const total = yield* keeping.removeAllOf(userId)
            return { deleted_media: ids, total }
          })
        )
      )
      .handle("joinRoom", ({ params: { roomIdOrAlias }, payload: { user_id } }) =>
        asAdmin({ action: "user.join_room", target: user_id, details: { room: roomIdOrAlias } }, () =>
          Effect.gen(function* () {
            yield* mustBeOurs(user_id)
            yield* users.find(user_id)
            return yield* rooms.join(user_id, roomIdOrAlias as RoomId | RoomAlias, undefined)
          })
        )
      )
      .handle("redact", ({ params: { userId }, payload }) =>
        asAdmin(
          { action: "user.redact", target: userId, reason: payload.reason ?? undefined, details: { ...payload } },
          (admin) =>
            Effect.map(
              redactions.request(userId, admin, {
                rooms: payload.rooms,
                reason: payload.reason ?? undefined,
                limit: payload.limit ?? defaultRedactions,
                afterTime: payload.after_ts ?? undefined,
                beforeTime: payload.before_ts ?? undefined,
                useAdmin: payload.use_admin ?? false
              }),
              (redact_id) => ({ redact_id })
            )
        )
      )
      .handle("redactStatus", ({ params: { redactId } }) =>
        asAdmin({ action: "user.redact_status", details: { redact_id: redactId } }, () =>
          Effect.map(redactions.find(redactId), ({ failed, status }) => ({ status, failed_redactions: failed }))
        )
      )
  })
)
