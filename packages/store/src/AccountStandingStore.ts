/**
 * The locked and suspended accounts. The rows are part of the log, so that every node receives a change.
 *
 * Used by `AccountStandings` and `Administration`. An error of the database is a defect.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { logKind } from "./LogKind.ts"

export interface AccountStanding {
  readonly userId: UserId
  /** The account cannot be used at all, but its sessions last. */
  readonly locked: boolean
  /** The account may read, and change little. */
  readonly suspended: boolean
}

export const accountStandings = logKind<AccountStanding>("account_standings", {
  userId: "user_id",
  locked: "locked",
  suspended: "suspended"
})

interface Row {
  readonly user_id: string
  readonly locked: boolean
  readonly suspended: boolean
}

const toStanding = (row: Row): AccountStanding => ({ ...row, userId: row.user_id as UserId })

export class AccountStandingStore extends Context.Service<
  AccountStandingStore,
  {
    /** Every account that is locked or suspended. */
    readonly all: Effect.Effect<ReadonlyArray<AccountStanding>>
    readonly find: (userId: UserId) => Effect.Effect<AccountStanding>
    /**
     * Undefined fields keep their value. Returns the new standing. Delayed events of an account that is locked or suspended are
     * cancelled with it.
     */
    readonly set: (
      userId: UserId,
      change: { readonly locked?: boolean | undefined; readonly suspended?: boolean | undefined }
    ) => Effect.Effect<AccountStanding>
  }
>()("greenroom/store/AccountStandingStore") {
  static readonly layer = Layer.effect(
    AccountStandingStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      return AccountStandingStore.of({
        all: sql<Row>`SELECT user_id, locked, suspended FROM account_standings WHERE locked OR suspended`.pipe(
          Effect.map((rows) => rows.map(toStanding)),
          Effect.orDie
        ),
        find: (userId) =>
          sql<Row>`SELECT user_id, locked, suspended FROM account_standings WHERE user_id = ${userId}`.pipe(
            Effect.map(([row]) => (row === undefined ? { userId, locked: false, suspended: false } : toStanding(row))),
            Effect.orDie
          ),
        set: Effect.fn("AccountStandingStore.set")(function* (userId, { locked, suspended }) {
          const now = yield* Clock.currentTimeMillis
          const [row] = yield* sql<Row>`
            WITH changed AS (
              INSERT INTO account_standings AS standing (user_id, locked, suspended)
              VALUES (${userId}, ${locked ?? false}, ${suspended ?? false})
              ON CONFLICT (user_id) DO UPDATE SET
                locked = coalesce(${locked ?? null}::boolean, standing.locked),
                suspended = coalesce(${suspended ?? null}::boolean, standing.suspended),
                xid = DEFAULT, nid = DEFAULT
              RETURNING user_id, locked, suspended
            ), cancelled AS (
              UPDATE delayed_events SET finalised_at = ${now}
              WHERE user_id = ${userId} AND finalised_at IS NULL AND NOT sending
                AND (SELECT locked OR suspended FROM changed)
            )
            SELECT * FROM changed`
          return toStanding(row!)
        }, Effect.orDie)
      })
    })
  )
}
