/**
 * What the endpoints of users do: the forms in which Synapse's administration API has users, and changes of accounts.
 *
 * Source: "User Admin API" of Synapse's documentation.
 */
import type { AccountRate } from "@greenroom/actors/account/AccountStandings"
import { Accounts } from "@greenroom/actors/account/Accounts"
import { Administration } from "@greenroom/actors/account/Administration"
import { AdminServices } from "@greenroom/actors/admin/AdminServices"
import { MediaAdministration } from "@greenroom/actors/admin/MediaAdministration"
import { UserAdministration, type UserDetails } from "@greenroom/actors/admin/UserAdministration"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { UserChange, UserQuery } from "@greenroom/protocol/admin/SynapseUsers"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { canonicalAddress, type ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { Forbidden, InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Order, Redacted } from "effect"
import { Sockets } from "../socket/Sockets.ts"
import { flagOf, nextOf, orderOf, pageOf, withoutUndefined } from "./AdminAction.ts"
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

/** A rate as Synapse has it. */
export const fromRate = ({ burstCount, messagesPerSecond }: AccountRate) => ({
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

export const makeUserRequests = Effect.gen(function* () {
  const services = yield* (yield* AdminServices).load
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* Accounts
  const administration = yield* Administration
  const sockets = yield* Sockets
  const users = Context.get(services, UserAdministration)
  const media = Context.get(services, MediaAdministration)

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

  const list = Effect.fnUntraced(function* (query: UserQuery, deactivated: boolean | undefined) {
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

  /** Creates an account, or changes the one that there is: the given fields, in this order. */
  const put = Effect.fnUntraced(function* (admin: UserId, userId: UserId, payload: UserChange) {
    const { password } = payload
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

  return { deactivate, detailsOf, devicesOf, endDevice, list, mustBeOurs, mustNotBeSelf, pageOfMedia, put, setPassword }
})
