/**
 * Users, servers and content that administrators have banned.
 *
 * Used by `Bans` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { logKind } from "./LogKind.ts"

const banKinds = ["user", "server", "sha256"] as const
export type BanKind = (typeof banKinds)[number]

/** A row of the log: the start or the end of a ban. */
export interface BanChange {
  readonly kind: BanKind
  readonly value: string
  readonly active: boolean
}

export interface Ban {
  readonly kind: BanKind
  /** A user ID, a server name, or the SHA-256 of content in hexadecimal digits. */
  readonly value: string
  readonly reason: string
  readonly bannedBy: string
  readonly bannedAt: number
}

export const banChanges = logKind<BanChange>("bans", { kind: "kind", value: "value", active: "active" })

export class BanStore extends Context.Service<
  BanStore,
  {
    /** The bans in force. */
    readonly all: Effect.Effect<ReadonlyArray<Ban>>
    readonly isBanned: (kind: BanKind, value: string) => Effect.Effect<boolean>
    /** Bans a value, or bans it again with another reason. */
    readonly add: (ban: Omit<Ban, "bannedAt">) => Effect.Effect<void>
    /** False if there was none. */
    readonly lift: (kind: BanKind, value: string) => Effect.Effect<boolean>
  }
>()("greenroom/store/BanStore") {
  static readonly layer = Layer.effect(
    BanStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      return BanStore.of({
        all: sql<{ kind: BanKind; value: string; reason: string; banned_by: string; changed_at: bigint }>`
          SELECT kind, value, reason, banned_by, changed_at FROM bans WHERE active ORDER BY changed_at DESC, value`.pipe(
          Effect.map((rows) =>
            rows.map(({ banned_by, changed_at, kind, reason, value }) => ({
              kind,
              value,
              reason: JSON.parse(reason) as string,
              bannedBy: banned_by,
              bannedAt: Number(changed_at)
            }))
          ),
          Effect.orDie
        ),
        isBanned: (kind, value) =>
          sql`SELECT 1 FROM bans WHERE kind = ${kind} AND value = ${value} AND active`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        add: Effect.fnUntraced(function* ({ bannedBy, kind, reason, value }) {
          const now = yield* Clock.currentTimeMillis
          yield* sql`
            INSERT INTO bans (kind, value, active, reason, banned_by, changed_at)
            VALUES (${kind}, ${value}, true, ${JSON.stringify(reason)}, ${bannedBy}, ${now})
            ON CONFLICT (kind, value) DO UPDATE SET active = true, reason = excluded.reason,
              banned_by = excluded.banned_by, changed_at = excluded.changed_at,
              xid = log_xid(), nid = nextval('log_nids')`
        }, Effect.orDie),
        lift: Effect.fnUntraced(function* (kind, value) {
          const now = yield* Clock.currentTimeMillis
          const rows = yield* sql`
            UPDATE bans SET active = false, changed_at = ${now}, xid = log_xid(), nid = nextval('log_nids')
            WHERE kind = ${kind} AND value = ${value} AND active RETURNING 1`
          return rows.length > 0
        }, Effect.orDie)
      })
    })
  )
}
