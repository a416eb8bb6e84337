/**
 * Invitations of addresses without a user. They are stored until the address is bound, here or at a peer, for at most
 * `inviteLifetime`.
 *
 * Source: "Identity" of the draft, "Invitation storage" of the identity service specification.
 */

import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { ThirdPartyIdInUse } from "@greenroom/protocol/identity/IdentityError"
import { maxInvitesPerAddress } from "@greenroom/protocol/identity/OnBind"
import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { lockAssociations } from "./AssociationLock.ts"
import { newToken } from "./Secrets.ts"

/** How long an invitation waits for its address to be bound: half a year, in ms. */
const inviteLifetime = 180 * 24 * 60 * 60_000

/** When an address that has too many invitations may get another one, in ms. */
const retryAfter = 24 * 60 * 60_000

interface NewInvite {
  readonly thirdPartyId: ThirdPartyId
  readonly roomId: RoomId
  readonly sender: UserId
  /** The ephemeral public key of the invitation, in base64. */
  readonly ephemeralKey: string
}

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  /** Stores an invitation under the lock of associations, so that a concurrent binding does not miss it. */
  const add = Effect.fn("StoredInvites.add")(function* ({ ephemeralKey, roomId, sender, thirdPartyId }: NewInvite) {
    const { address, medium } = thirdPartyId
    yield* lockAssociations(sql)
    const bound = yield* sql<{ mxid: string }>`
      SELECT mxid FROM associations WHERE medium = ${medium} AND address = ${address} AND mxid IS NOT NULL`
    if (bound.length > 0) {
      return yield* new ThirdPartyIdInUse({
        error: "The address belongs to a user: invite the user ID",
        mxid: bound[0]!.mxid as UserId
      })
    }
    const token = newToken()
    const rows = yield* sql`
      INSERT INTO invites (token, medium, address, room_id, sender, created_at, ephemeral_key)
      SELECT ${token}, ${medium}, ${address}, ${roomId}, ${sender}, ${yield* Clock.currentTimeMillis}::bigint,
        ${ephemeralKey}
      WHERE (SELECT count(*) FROM invites WHERE medium = ${medium} AND address = ${address}) < ${maxInvitesPerAddress}
      RETURNING token`
    if (rows.length === 0) {
      return yield* new LimitExceeded({ error: "The address has too many invitations", retry_after_ms: retryAfter })
    }
    return token
  })

  const forget = Effect.gen(function* () {
    yield* sql`DELETE FROM invites WHERE created_at <= ${(yield* Clock.currentTimeMillis) - inviteLifetime}`
  }).pipe(Effect.orDie)

  return StoredInvites.of({
    add: (invite) => Effect.catchTag(sql.withTransaction(add(invite)), "SqlError", Effect.die),
    remove: (token) => Effect.orDie(Effect.asVoid(sql`DELETE FROM invites WHERE token = ${token}`)),
    senderOf: (token) =>
      sql<{ sender: string }>`SELECT sender FROM invites WHERE token = ${token}`.pipe(
        Effect.map((rows) => rows[0]?.sender as UserId | undefined),
        Effect.orDie
      ),
    hasKey: (key) =>
      sql`SELECT 1 FROM invites WHERE ephemeral_key = ${key} LIMIT 1`.pipe(
        Effect.map((rows) => rows.length > 0),
        Effect.orDie
      ),
    forget
  })
})

export class StoredInvites extends Context.Service<
  StoredInvites,
  {
    /**
     * Stores an invitation, and returns its token. Errors: M_THREEPID_IN_USE if the address belongs to a user, M_LIMIT_EXCEEDED if it
     * has too many invitations.
     */
    readonly add: (invite: NewInvite) => Effect.Effect<string, ThirdPartyIdInUse | LimitExceeded>
    readonly remove: (token: string) => Effect.Effect<void>
    /** The inviter; undefined if the invitation has ended. */
    readonly senderOf: (token: string) => Effect.Effect<UserId | undefined>
    /** Whether the key belongs to a stored invitation. */
    readonly hasKey: (ephemeralKey: string) => Effect.Effect<boolean>
    /** Deletes expired invitations. */
    readonly forget: Effect.Effect<void>
  }
>()("greenroom/identity/StoredInvites") {
  static readonly layer = Layer.effect(StoredInvites, make)
}
