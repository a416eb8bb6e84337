/**
 * Users, as calls of `Administration` and `UserAdministration`.
 *
 * Source: "User Admin API" of Synapse's documentation.
 */
import type { AccountRate } from "@greenroom/actors/account/AccountStandings"
import { Accounts } from "@greenroom/actors/account/Accounts"
import { Administration } from "@greenroom/actors/account/Administration"
import { MediaAdministration } from "@greenroom/actors/admin/MediaAdministration"
import { RoomAdministration } from "@greenroom/actors/admin/RoomAdministration"
import { UserAdministration, type UserDetails } from "@greenroom/actors/admin/UserAdministration"
import { UserRedactions } from "@greenroom/actors/admin/UserRedactions"
import { MediaKeeping } from "@greenroom/actors/media/MediaKeeping"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import type { UserQuery } from "@greenroom/protocol/admin/SynapseUsers"
import { type RoomAlias, type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { canonicalAddress, type ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { Forbidden, InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Order, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { Sockets } from "../socket/Sockets.ts"
import { flagOf, makeAdminActions, nextOf, orderOf, pageOf, withoutUndefined } from "./AdminAction.ts"
import { byMediaId, mediaOrders, toMedia } from "./MediaHandlers.ts"

type User = Omit<UserDetails, "addresses" | "subjects">

const toUser = (user: User) => ({
  name: user.userId,
  displayname: user.displayName ?? null,
  avatar_url: user.avatarUrl ?? null,
  admin: user.admin,
  is_guest: user.guest,
  user_type: null,
  deactivated: user.deactivatedAt !== undefined,
  erased: user.erased,
  locked: user.locked,
  suspended: user.suspended,
  shadow_banned: false,
  approved: user.approved,
  creation_ts: user.createdAt,
  last_seen_ts: user.lastSeenAt ?? null
})

const fromRate = ({ burstCount, messagesPerSecond }: AccountRate) => ({
  messages_per_second: messagesPerSecond,
  burst_count: burstCount
})

/** A single user has more fields than one of a list, and the time of creation in seconds instead of milliseconds. */
const toUserDetails = (user: UserDetails) => ({
  ...toUser(user),
  creation_ts: Math.floor(user.createdAt / 1_000),
  appservice_id: null,
  threepids: user.addresses.map(({ address, medium, verifiedAt }) => ({
    medium,
    address,
    added_at: verifiedAt,
    validated_at: verifiedAt
  })),
  external_ids: user.subjects.map(({ provider, subject }) => ({ auth_provider: provider, external_id: subject }))
})

/** An address in its canonical form, as it is stored. */
const canonicalOf = ({ address, medium }: ThirdPartyId): Effect.Effect<ThirdPartyId, MatrixError> => {
  const canonical = canonicalAddress({ address, medium })
  return canonical === undefined
    ? Effect.fail(new InvalidParam({ error: `threepids: ${address} is not an address of the medium ${medium}` }))
    : Effect.succeed({ medium, address: canonical })
}

/** Our orders by the names that Synapse gives them. */
const orders = {
  name: "name",
  is_guest: "is_guest",
  admin: "admin",
  user_type: "name",
  deactivated: "deactivated",
  displayname: "displayname",
  avatar_url: "avatar_url",
  creation_ts: "creation_ts",
  last_seen_ts: "last_seen_ts",
  locked: "locked",
  shadow_banned: "name"
} as const

/** How many events of each room are redacted where a request does not say it. */
const defaultRedactions = 1_000

export const userHandlers = HttpApiBuilder.group(SynapseAdminApi, "synapseAdmin.users", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const { serverName } = yield* HomeServerConfig
    const accounts = yield* Accounts
    const administration = yield* Administration
    const sockets = yield* Sockets
    const keeping = yield* MediaKeeping
    const users = Context.get(services, UserAdministration)
    const rooms = Context.get(services, RoomAdministration)
    const media = Context.get(services, MediaAdministration)
    const redactions = Context.get(services, UserRedactions)

    const detailsOf = (userId: UserId) => Effect.map(users.find(userId), toUserDetails)

    const devicesOf = (userId: UserId) =>
      Effect.map(administration.devices(userId), (devices) =>
        devices.map((device) => ({
          device_id: device.device_id,
          user_id: userId,
          display_name: device.display_name ?? null,
          last_seen_ip: device.last_seen_ip ?? null,
          last_seen_user_agent: null,
          last_seen_ts: device.last_seen_ts,
          dehydrated: false
        }))
      )

    const endDevice = (userId: UserId, deviceId: string) =>
      Effect.flatMap(accounts.logoutDevice(userId, deviceId), (ended) =>
        Effect.forEach(ended, sockets.closeToken, { discard: true })
      ).pipe(Effect.catchTag("M_NOT_FOUND", () => Effect.void))

    const mustBeOurs = (userId: UserId) =>
      serverNameOf(userId) === serverName
        ? Effect.void
        : Effect.fail(new InvalidParam({ error: `${userId} is not a user of this server` }))

    const mustNotBeSelf = (admin: UserId, userId: UserId, error: string) =>
      admin === userId ? Effect.fail(new Forbidden({ error })) : Effect.void

    const deactivate = Effect.fnUntraced(function* (userId: UserId, erase: boolean) {
      yield* users.deactivate(userId, erase)
      yield* sockets.closeUser(userId)
    })

    const setPassword = Effect.fnUntraced(function* (userId: UserId, password: string, logout: boolean) {
      yield* users.setPassword(userId, Redacted.make(password), logout)
      if (logout) yield* sockets.closeUser(userId)
    })

    const pageOfMedia = Effect.fnUntraced(function* (
      userId: UserId,
      query: Parameters<typeof pageOf>[0] & { readonly order_by?: string }
    ) {
      const order = yield* orderOf(mediaOrders, query.order_by ?? "created_ts")
      yield* users.find(userId)
      const { from, limit } = pageOf(query)
      const isDescending = query.dir === undefined ? query.order_by === undefined : query.dir === "b"
      const all = yield* media.uploadsOf(userId)
      const chosen = all
        .toSorted(Order.combine(isDescending ? Order.flip(order) : order, byMediaId))
        .slice(from, from + limit)
      return withoutUndefined({
        media: chosen.map(toMedia),
        total: all.length,
        next_token: nextOf(from, chosen.length, all.length)
      })
    })

    const list = (query: UserQuery, deactivated: boolean | undefined) =>
      asAdmin({ action: "user.list", details: { ...query } }, () =>
        Effect.gen(function* () {
          const page = pageOf(query)
          const { total, users: found } = yield* users.list({
            ...page,
            orderBy: yield* orderOf(orders, query.order_by ?? "name"),
            userId: query.user_id,
            name: query.name,
            admins: flagOf(query.admins),
            guests: query.guests === "false" ? false : undefined,
            deactivated,
            locked: flagOf(query.locked) ?? false
          })
          const next = nextOf(page.from, found.length, total)
          return withoutUndefined({
            users: found.map((user) => ({ ...toUser(user), creation_ts: user.createdAt })),
            total,
            next_token: next === undefined ? undefined : String(next)
          })
        })
      )

    return handlers
      .handle("list", ({ query }) => list(query, query.deactivated === "true" ? undefined : false))
      .handle("listV3", ({ query }) => list(query, flagOf(query.deactivated)))
      .handle("get", ({ params: { userId } }) =>
        asAdmin({ action: "user.show", target: userId }, () => detailsOf(userId))
      )
      .handle("put", ({ params: { userId }, payload }) => {
        const { password, ...details } = payload
        return asAdmin({ action: "user.set", target: userId, details }, (admin) =>
          Effect.gen(function* () {
            yield* mustBeOurs(userId)
            const addresses = yield* Effect.forEach(payload.threepids ?? [], canonicalOf)
            const isNew = yield* Effect.match(users.find(userId), { onFailure: () => true, onSuccess: () => false })
            if (isNew) {
              yield* administration.createUser({
                user: userId,
                password: password == null ? undefined : Redacted.make(password),
                admin: payload.admin
              })
            } else if (password != null) {
              yield* setPassword(userId, password, payload.logout_devices ?? true)
            }
            if (payload.threepids !== undefined) yield* users.setAddresses(userId, addresses)
            if (payload.external_ids !== undefined) {
              yield* users.setSubjects(
                userId,
                payload.external_ids.map(({ auth_provider: provider, external_id: subject }) => ({ provider, subject }))
              )
            }
            if (payload.displayname != null) yield* users.setProfileField(userId, "displayname", payload.displayname)
            if (payload.avatar_url != null) yield* users.setProfileField(userId, "avatar_url", payload.avatar_url)
            if (payload.admin !== undefined && !isNew) {
              if (!payload.admin) yield* mustNotBeSelf(admin, userId, "admin: you may not demote yourself")
              yield* administration.setAdmin(userId, payload.admin)
            }
            if (payload.approved === true && !isNew && !(yield* users.find(userId)).approved) {
              yield* administration.approve(userId)
            }
            if (payload.locked !== undefined) {
              if (payload.locked) yield* mustNotBeSelf(admin, userId, "locked: you may not lock yourself")
              yield* users.setStanding(userId, { locked: payload.locked })
            }
            if (payload.deactivated === true) yield* deactivate(userId, false)
            if (payload.deactivated === false && (yield* users.find(userId)).deactivatedAt !== undefined) {
              return yield* new InvalidParam({ error: "deactivated: an account cannot be activated again" })
            }
            return yield* detailsOf(userId)
          })
        )
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
          Effect.as(setPassword(userId, payload.new_password, payload.logout_devices ?? true), {})
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
        asAdmin({ action: "user.media", target: userId }, () => pageOfMedia(userId, query))
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
