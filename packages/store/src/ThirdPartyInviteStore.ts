/**
 * Invitations of addresses without a user, until the identity server binds the address to one. One node at a
 * time works on an invitation, and one that ended stays ended, so that a user is invited once, however often the binding is reported.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "./PgArrays.ts"

export interface ThirdPartyInvite {
  /** The content that the identity server signs for the user of the address. */
  readonly token: string
  readonly roomId: RoomId
  /** A user of this server. */
  readonly sender: UserId
  /** The keys of the identity server, in unpadded base64. */
  readonly publicKeys: ReadonlyArray<string>
  /** The obfuscated address that the room may see. */
  readonly displayName: string
}

/** The outcome of an attempt to work on an invitation. */
export type Claim = "claimed" | "ended" | "busy" | "another user's"

/** How long one node has to invite the user before another one may, in ms. */
const lease = 60_000

/** How long invitations are kept: a little longer than identity servers do, in ms. */
const lifetime = 200 * 24 * 60 * 60_000

interface InviteRow {
  readonly token: string
  readonly room_id: string
  readonly sender: string
  readonly public_keys: ReadonlyArray<string>
  readonly display_name: string
}

const toInvite = (row: InviteRow): ThirdPartyInvite => ({
  token: row.token,
  roomId: row.room_id as RoomId,
  sender: row.sender as UserId,
  publicKeys: row.public_keys,
  displayName: row.display_name
})

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  const add = Effect.fn("ThirdPartyInviteStore.add")(function* (invite: ThirdPartyInvite, transaction?: string) {
    const now = yield* Clock.currentTimeMillis
    yield* sql`DELETE FROM third_party_invites WHERE created_at < ${now - lifetime}`
    const rows = yield* sql`
      INSERT INTO third_party_invites (token, room_id, sender, public_keys, display_name, transaction, created_at)
      VALUES (${invite.token}, ${invite.roomId}, ${invite.sender}, ${texts(invite.publicKeys)}, ${invite.displayName},
        ${transaction ?? null}, ${now})
      ON CONFLICT DO NOTHING RETURNING 1`
    return rows.length > 0
  }, Effect.orDie)

  const claim = Effect.fn("ThirdPartyInviteStore.claim")(function* (token: string, userId: UserId) {
    const now = yield* Clock.currentTimeMillis
    const claimed = yield* sql`
      UPDATE third_party_invites SET user_id = ${userId}, claimed_until = ${now + lease}
      WHERE token = ${token} AND ended_at IS NULL AND claimed_until NOT BETWEEN ${now + 1} AND ${now + lease}
        AND (user_id IS NULL OR user_id = ${userId})
      RETURNING 1`
    if (claimed.length > 0) return "claimed"
    const [row] = yield* sql<{ user_id: string | null; ended_at: bigint | null }>`
      SELECT user_id, ended_at FROM third_party_invites WHERE token = ${token}`
    if (row !== undefined && row.user_id !== null && row.user_id !== userId) return "another user's"
    return row === undefined || row.ended_at !== null ? "ended" : "busy"
  }, Effect.orDie)

  const end = Effect.fn("ThirdPartyInviteStore.end")(function* (token: string) {
    yield* sql`UPDATE third_party_invites SET ended_at = ${yield* Clock.currentTimeMillis} WHERE token = ${token}`
  }, Effect.orDie)

  return ThirdPartyInviteStore.of({
    add,
    claim,
    end,
    find: (token) =>
      sql<InviteRow>`
        SELECT token, room_id, sender, public_keys, display_name FROM third_party_invites WHERE token = ${token}`.pipe(
        Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), toInvite)),
        Effect.orDie
      ),
    countBetween: (sender, from, to) =>
      sql<{ count: bigint }>`
        SELECT count(*) FROM third_party_invites
        WHERE sender = ${sender} AND created_at BETWEEN ${from} AND ${to}`.pipe(
        Effect.map((rows) => Number(rows[0]?.count ?? 0)),
        Effect.orDie
      ),
    isDone: (transaction) =>
      sql`SELECT 1 FROM third_party_invites WHERE transaction = ${transaction}`.pipe(
        Effect.map((rows) => rows.length > 0),
        Effect.orDie
      ),
    release: (token) =>
      sql`UPDATE third_party_invites SET claimed_until = 0 WHERE token = ${token} AND ended_at IS NULL`.pipe(
        Effect.asVoid,
        Effect.orDie
      )
  })
})

export class ThirdPartyInviteStore extends Context.Service<
  ThirdPartyInviteStore,
  {
    /** Keeps an invitation. False if its token or transaction is there already. */
    readonly add: (invite: ThirdPartyInvite, transaction?: string) => Effect.Effect<boolean>
    /** How many a user has made between two times. */
    readonly countBetween: (sender: UserId, from: number, to: number) => Effect.Effect<number>
    /** Whether this transaction has made an invitation. */
    readonly isDone: (transaction: string) => Effect.Effect<boolean>
    readonly find: (token: string) => Effect.Effect<Option.Option<ThirdPartyInvite>>
    /** Claims an invitation of a user. The claimer must `end` or `release` it. */
    readonly claim: (token: string, userId: UserId) => Effect.Effect<Claim>
    /** The user was invited, or never can be. */
    readonly end: (token: string) => Effect.Effect<void>
    /** It may be tried again at once. */
    readonly release: (token: string) => Effect.Effect<void>
  }
>()("greenroom/store/ThirdPartyInviteStore") {
  static readonly layer = Layer.effect(ThirdPartyInviteStore, make)
}
