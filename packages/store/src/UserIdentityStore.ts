/**
 * Identities of accounts beside passwords: verified addresses, and accounts at OAuth2 providers. Each belongs to one user of
 * this server at most.
 *
 * Addresses are in the canonical form of `ThirdPartyId`. A subject is the provider's name of the user, any text. An error
 * of the database is a defect. Times are milliseconds since 1970.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Medium, ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { counted } from "./internal/counted.ts"

export interface VerifiedAddress extends ThirdPartyId {
  readonly verifiedAt: number
}

/** An account at an OAuth2 provider. */
export interface ProviderSubject {
  readonly provider: string
  readonly subject: string
}

/** An identity server at which an address of a user is bound. */
export interface IdentityBinding extends ThirdPartyId {
  /** The URL of the identity server, without a slash at the end. */
  readonly server: string
}

/** How many bindings of a user are remembered. */
const maxBindings = 200

export class UserIdentityStore extends Context.Service<
  UserIdentityStore,
  {
    /** False if the address is another user's. */
    readonly bindAddress: (userId: UserId, address: ThirdPartyId) => Effect.Effect<boolean>
    /** False if it was not the user's. */
    readonly unbindAddress: (userId: UserId, address: ThirdPartyId) => Effect.Effect<boolean>
    readonly userOfAddress: (address: ThirdPartyId) => Effect.Effect<Option.Option<UserId>>
    readonly addressesOf: (userId: UserId) => Effect.Effect<ReadonlyArray<VerifiedAddress>>
    /** False if the provider's account is linked to another user. */
    readonly linkSubject: (userId: UserId, subject: ProviderSubject) => Effect.Effect<boolean>
    /** False if it was not linked to the user. */
    readonly unlinkSubject: (userId: UserId, subject: ProviderSubject) => Effect.Effect<boolean>
    readonly userOfSubject: (subject: ProviderSubject) => Effect.Effect<Option.Option<UserId>>
    readonly subjectsOf: (userId: UserId) => Effect.Effect<ReadonlyArray<ProviderSubject>>
    /** Remembers the identity server of an address, up to a number for each user. */
    readonly noteBinding: (userId: UserId, binding: IdentityBinding) => Effect.Effect<void>
    readonly forgetBinding: (userId: UserId, binding: IdentityBinding) => Effect.Effect<void>
    readonly bindingsOf: (userId: UserId) => Effect.Effect<ReadonlyArray<IdentityBinding>>
  }
>()("greenroom/store/UserIdentityStore") {
  static readonly layer = Layer.effect(
    UserIdentityStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      type UserRow = { readonly user_id: string }
      const changed = (rows: ReadonlyArray<unknown>) => rows.length > 0
      const firstUser = (rows: ReadonlyArray<UserRow>) =>
        Option.map(Option.fromNullishOr(rows[0]), (row) => row.user_id as UserId)

      const bindAddress = Effect.fn("UserIdentityStore.bindAddress")(function* (
        userId: UserId,
        { address, medium }: ThirdPartyId
      ) {
        const now = yield* Clock.currentTimeMillis
        return changed(
          yield* sql`
            INSERT INTO user_threepids AS bound (medium, address, user_id, verified_at)
            VALUES (${medium}, ${address}, ${userId}, ${now})
            ON CONFLICT (medium, address) DO UPDATE SET verified_at = ${now} WHERE bound.user_id = ${userId}
            RETURNING 1`
        )
      }, Effect.orDie)

      const linkSubject = Effect.fn("UserIdentityStore.linkSubject")(function* (
        userId: UserId,
        { provider, subject }: ProviderSubject
      ) {
        const now = yield* Clock.currentTimeMillis
        return changed(
          yield* sql`
            INSERT INTO user_identities AS linked (provider, subject, user_id, linked_at)
            VALUES (${provider}, ${JSON.stringify(subject)}, ${userId}, ${now})
            ON CONFLICT (provider, subject) DO UPDATE SET linked_at = ${now} WHERE linked.user_id = ${userId}
            RETURNING 1`
        )
      }, Effect.orDie)

      return UserIdentityStore.of({
        bindAddress,
        unbindAddress: (userId, { address, medium }) =>
          sql`
            DELETE FROM user_threepids
            WHERE medium = ${medium} AND address = ${address} AND user_id = ${userId} RETURNING 1`.pipe(
            Effect.map(changed),
            Effect.orDie
          ),
        userOfAddress: ({ address, medium }) =>
          sql<UserRow>`SELECT user_id FROM user_threepids WHERE medium = ${medium} AND address = ${address}`.pipe(
            Effect.map(firstUser),
            Effect.orDie
          ),
        addressesOf: (userId) =>
          sql<{ medium: Medium; address: string; verified_at: bigint }>`
            SELECT medium, address, verified_at FROM user_threepids WHERE user_id = ${userId}
            ORDER BY medium, address`.pipe(
            Effect.map((rows) =>
              rows.map((row) => ({ medium: row.medium, address: row.address, verifiedAt: Number(row.verified_at) }))
            ),
            Effect.orDie
          ),
        linkSubject,
        unlinkSubject: (userId, { provider, subject }) =>
          sql`
            DELETE FROM user_identities
            WHERE provider = ${provider} AND subject = ${JSON.stringify(subject)} AND user_id = ${userId}
            RETURNING 1`.pipe(Effect.map(changed), Effect.orDie),
        userOfSubject: ({ provider, subject }) =>
          sql<UserRow>`
            SELECT user_id FROM user_identities
            WHERE provider = ${provider} AND subject = ${JSON.stringify(subject)}`.pipe(
            Effect.map(firstUser),
            Effect.orDie
          ),
        subjectsOf: (userId) =>
          sql<{ provider: string; subject: string }>`
            SELECT provider, subject FROM user_identities WHERE user_id = ${userId} ORDER BY provider, subject`.pipe(
            Effect.map((rows) => rows.map((row) => ({ provider: row.provider, subject: JSON.parse(row.subject) }))),
            Effect.orDie
          ),
        noteBinding: (userId, { address, medium, server }) =>
          counted(sql)(`identity bindings ${userId}`)(sql`
            INSERT INTO identity_bindings (user_id, medium, address, id_server)
            SELECT ${userId}, ${medium}, ${address}, ${server}
            WHERE (SELECT count(*) FROM identity_bindings WHERE user_id = ${userId}) < ${maxBindings}
            ON CONFLICT DO NOTHING`).pipe(Effect.asVoid, Effect.orDie),
        forgetBinding: (userId, { address, medium, server }) =>
          sql`
            DELETE FROM identity_bindings
            WHERE user_id = ${userId} AND medium = ${medium} AND address = ${address} AND id_server = ${server}`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        bindingsOf: (userId) =>
          sql<{ medium: Medium; address: string; id_server: string }>`
            SELECT medium, address, id_server FROM identity_bindings WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) =>
              rows.map(({ address, id_server, medium }) => ({ medium, address, server: id_server }))
            ),
            Effect.orDie
          )
      })
    })
  )
}
