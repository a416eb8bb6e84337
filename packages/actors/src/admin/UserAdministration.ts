/**
 * Accounts for administrators, beyond `Administration`: searching, deactivation with erasure, logins in the name of a user,
 * and what users have uploaded.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 *
 * Source: the user administration API of Synapse.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { JsonObject } from "@greenroom/protocol/Json"
import { InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { PusherStore } from "@greenroom/store/PusherStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type AdministeredUser, UserAdministrationStore } from "@greenroom/store/UserAdministrationStore"
import { type ProviderSubject, UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Context, Effect, Layer, Option } from "effect"
import { type AccountRate, AccountStandings } from "../account/AccountStandings.ts"
import { Accounts } from "../account/Accounts.ts"
import { checkStanding } from "../account/Administration.ts"
import { Users } from "../user/Users.ts"

/** A user with everything that is shown of one user alone. */
export interface UserDetails extends AdministeredUser {
  readonly addresses: ReadonlyArray<{ readonly medium: string; readonly address: string; readonly verifiedAt: number }>
  readonly subjects: ReadonlyArray<{ readonly provider: string; readonly subject: string }>
}

/** How one kind of identities is changed. */
interface Replacement<A> {
  /** Names an entry, of which no two have the same. */
  readonly name: (entry: A) => string
  /** False if it is another user's. */
  readonly add: (entry: A) => Effect.Effect<boolean>
  readonly remove: (entry: A) => Effect.Effect<unknown>
}

const everyMembership = ["join", "invite", "knock", "leave", "ban"]

const make = Effect.gen(function* () {
  const store = yield* UserAdministrationStore
  const identities = yield* UserIdentityStore
  const accountStore = yield* AccountStore
  const accounts = yield* Accounts
  const standings = yield* AccountStandings
  const rooms = yield* RoomStore
  const pushers = yield* PusherStore
  const users = yield* Users

  const find = Effect.fnUntraced(function* (userId: UserId) {
    const user = yield* store.find(userId)
    if (user === undefined) return yield* new NotFound({ error: `There is no user ${userId}` })
    return {
      ...user,
      addresses: yield* identities.addressesOf(userId),
      subjects: yield* identities.subjectsOf(userId)
    }
  })

  const ownerOf = (found: Option.Option<UserId>) =>
    Option.isSome(found)
      ? Effect.succeed(found.value)
      : Effect.fail(new NotFound({ error: "No user has this address or external ID" }))

  /** Gives the user these addresses or subjects, and takes the others away. */
  const replace = Effect.fnUntraced(function* <A>(
    before: ReadonlyArray<A>,
    wanted: ReadonlyArray<A>,
    { add, name, remove }: Replacement<A>
  ) {
    for (const entry of wanted) {
      if (!(yield* add(entry))) return yield* new InvalidParam({ error: `${name(entry)} belongs to another user` })
    }
    const kept = new Set(wanted.map(name))
    yield* Effect.forEach(
      before.filter((entry) => !kept.has(name(entry))),
      remove,
      { discard: true }
    )
  })

  return UserAdministration.of({
    list: store.list,
    mediaUsage: store.mediaUsage,
    find,
    setProfileField: (userId, field, value) =>
      users.setProfileField({ userId, tokenId: 0, deviceId: "" }, userId, field, value),
    setAddresses: Effect.fn("UserAdministration.setAddresses")(function* (userId, addresses) {
      yield* replace<ThirdPartyId>((yield* find(userId)).addresses, addresses, {
        name: ({ address, medium }) => `${medium} ${address}`,
        add: (address) => identities.bindAddress(userId, address),
        remove: (address) => identities.unbindAddress(userId, address)
      })
    }),
    setSubjects: Effect.fn("UserAdministration.setSubjects")(function* (userId, subjects) {
      yield* replace<ProviderSubject>((yield* find(userId)).subjects, subjects, {
        name: ({ provider, subject }) => `${provider} ${subject}`,
        add: (subject) => identities.linkSubject(userId, subject),
        remove: (subject) => identities.unlinkSubject(userId, subject)
      })
    }),
    deactivate: Effect.fn("UserAdministration.deactivate")(function* (userId, erase) {
      yield* find(userId)
      yield* accounts.deactivate(userId, erase)
    }),
    setPassword: Effect.fn("UserAdministration.setPassword")(function* (userId, password, logout) {
      yield* find(userId)
      if (logout) return yield* accounts.setPassword(userId, password)
      yield* accountStore.setPasswordHash(userId, yield* accounts.hashPassword(password))
    }),
    setStanding: (userId, change) =>
      Effect.flatMap(find(userId), ({ admin }) =>
        Effect.andThen(checkStanding(admin, change), standings.set(userId, change))
      ),
    rateOf: (userId) => Effect.map(find(userId), () => standings.rateOf(userId)),
    logIn: (userId) =>
      Effect.flatMap(find(userId), () =>
        Effect.map(accounts.openSession(userId, { deviceName: "An administrator" }), ({ access_token, device_id }) => ({
          access_token,
          device_id
        }))
      ),
    byAddress: (address) => Effect.flatMap(identities.userOfAddress(address), ownerOf),
    bySubject: (subject) => Effect.flatMap(identities.userOfSubject(subject), ownerOf),
    joinedRooms: (userId) => Effect.andThen(find(userId), rooms.joinedRooms(userId)),
    memberships: (userId) =>
      Effect.map(rooms.membershipsOf(userId, everyMembership), (found) =>
        Object.fromEntries(found.map(({ membership, roomId }) => [roomId, membership]))
      ),
    pushers: (userId) =>
      Effect.flatMap(find(userId), () =>
        Effect.map(pushers.list([userId]), (found) => found.map(({ description }) => description))
      )
  })
})

/** Accounts for administrators: search, erasure, logins, uploads. Does not check whether the caller is one. */
export class UserAdministration extends Context.Service<
  UserAdministration,
  {
    readonly list: UserAdministrationStore["Service"]["list"]
    readonly mediaUsage: UserAdministrationStore["Service"]["mediaUsage"]
    /** Errors: M_NOT_FOUND, as of all that follows. */
    readonly find: (userId: UserId) => Effect.Effect<UserDetails, MatrixError>
    readonly setProfileField: (
      userId: UserId,
      field: "displayname" | "avatar_url",
      value: string
    ) => Effect.Effect<void, MatrixError>
    /** Replaces the addresses of a user, in their canonical form; taken as verified. Errors: M_INVALID_PARAM too, for those of others. */
    readonly setAddresses: (userId: UserId, addresses: ReadonlyArray<ThirdPartyId>) => Effect.Effect<void, MatrixError>
    /** Replaces the accounts of a user at providers. Errors as for `setAddresses`. */
    readonly setSubjects: (userId: UserId, subjects: ReadonlyArray<ProviderSubject>) => Effect.Effect<void, MatrixError>
    /** `erase` deletes the user's uploads and hides their messages too. */
    readonly deactivate: (userId: UserId, erase: boolean) => Effect.Effect<void, MatrixError>
    /** Errors: M_BAD_JSON too. */
    readonly setPassword: (
      userId: UserId,
      password: Parameters<Accounts["Service"]["setPassword"]>[1],
      logout: boolean
    ) => Effect.Effect<void, MatrixError>
    /** Errors: M_FORBIDDEN too, if an administrator would be locked or suspended. */
    readonly setStanding: (
      userId: UserId,
      change: Parameters<AccountStandings["Service"]["set"]>[1]
    ) => Effect.Effect<unknown, MatrixError>
    /** The rate that was set for the user alone. */
    readonly rateOf: (userId: UserId) => Effect.Effect<AccountRate | undefined, MatrixError>
    /** A new login in the name of the user. Errors: M_USER_DEACTIVATED, M_USER_LOCKED too. */
    readonly logIn: (
      userId: UserId
    ) => Effect.Effect<{ readonly access_token: string; readonly device_id: string }, MatrixError>
    /** The user that has an address, or an account at a provider. */
    readonly byAddress: (
      address: Parameters<UserIdentityStore["Service"]["userOfAddress"]>[0]
    ) => Effect.Effect<UserId, MatrixError>
    readonly bySubject: (
      subject: Parameters<UserIdentityStore["Service"]["userOfSubject"]>[0]
    ) => Effect.Effect<UserId, MatrixError>
    readonly joinedRooms: (userId: UserId) => Effect.Effect<ReadonlyArray<RoomId>, MatrixError>
    /** By room. Users of other servers have those that this server knows. */
    readonly memberships: (userId: UserId) => Effect.Effect<{ readonly [roomId: RoomId]: string }>
    /** As their owner sees them. */
    readonly pushers: (userId: UserId) => Effect.Effect<ReadonlyArray<JsonObject>, MatrixError>
  }
>()("greenroom/actors/UserAdministration") {
  static readonly layer = Layer.effect(UserAdministration, make)
}
