/**
 * The locked and suspended accounts, and those with rates of their own. The rows are part of the log, so that every node receives a change.
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

/** A limit of requests that change something. With 0 for `messagesPerSecond` the user has no limit of any requests. */
export interface AccountRate {
  readonly messagesPerSecond: number
  /** How many may come at once. */
  readonly burstCount: number
}

export interface AccountStanding {
  readonly userId: UserId
  /** The account cannot be used at all, but its sessions last. */
  readonly locked: boolean
  /** The account may read, and change little. */
  readonly suspended: boolean
  /** In place of the rate of all users; null for that. */
  readonly rate: AccountRate | null
}

const rateColumn = `CASE WHEN messages_per_second IS NOT NULL THEN
  json_build_object('messagesPerSecond', messages_per_second, 'burstCount', burst_count) END`

export const accountStandings = logKind<AccountStanding>("account_standings", {
  userId: "user_id",
  locked: "locked",
  suspended: "suspended",
  rate: rateColumn
})

interface Row {
  readonly user_id: string
  readonly locked: boolean
  readonly suspended: boolean
  readonly messages_per_second: number | null
  readonly burst_count: number | null
}

const toStanding = (row: Row): AccountStanding => ({
  userId: row.user_id as UserId,
  locked: row.locked,
  suspended: row.suspended,
  rate:
    row.messages_per_second === null
      ? null
      : { messagesPerSecond: row.messages_per_second, burstCount: row.burst_count ?? 0 }
})

/** A change of a standing. Undefined fields keep their value. */
export type AccountStandingChange = {
  readonly [Field in "locked" | "suspended" | "rate"]?: AccountStanding[Field] | undefined
}

export class AccountStandingStore extends Context.Service<
  AccountStandingStore,
  {
    /** Every account that is locked or suspended, or has a rate of its own. */
    readonly all: Effect.Effect<ReadonlyArray<AccountStanding>>
    /** The standing of an account; that of an account in good standing where nothing is stored. */
    readonly find: (userId: UserId) => Effect.Effect<AccountStanding>
    /**
     * Returns the new standing. Delayed events of an account that is locked or suspended are
     * cancelled with it.
     */
    readonly set: (userId: UserId, change: AccountStandingChange) => Effect.Effect<AccountStanding>
  }
>()("greenroom/store/AccountStandingStore") {
  static readonly layer = Layer.effect(
    AccountStandingStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal("user_id, locked, suspended, messages_per_second, burst_count")
      return AccountStandingStore.of({
        all: sql<Row>`
          SELECT ${columns} FROM account_standings
          WHERE locked OR suspended OR messages_per_second IS NOT NULL`.pipe(
          Effect.map((rows) => rows.map(toStanding)),
          Effect.orDie
        ),
        find: (userId) =>
          sql<Row>`SELECT ${columns} FROM account_standings WHERE user_id = ${userId}`.pipe(
            Effect.map(([row]) =>
              row === undefined ? { userId, locked: false, suspended: false, rate: null } : toStanding(row)
            ),
            Effect.orDie
          ),
        set: Effect.fn("AccountStandingStore.set")(function* (userId, { locked, rate, suspended }) {
          const now = yield* Clock.currentTimeMillis
          const [perSecond, burst] = [rate?.messagesPerSecond ?? null, rate?.burstCount ?? null]
          const [row] = yield* sql<Row>`
            WITH changed AS (
              INSERT INTO account_standings AS standing (${columns})
              VALUES (${userId}, ${locked ?? false}, ${suspended ?? false}, ${perSecond}::integer, ${burst}::integer)
              ON CONFLICT (user_id) DO UPDATE SET
                locked = coalesce(${locked ?? null}::boolean, standing.locked),
                suspended = coalesce(${suspended ?? null}::boolean, standing.suspended),
                messages_per_second = CASE WHEN ${rate === undefined} THEN standing.messages_per_second ELSE ${perSecond}::integer END,
                burst_count = CASE WHEN ${rate === undefined} THEN standing.burst_count ELSE ${burst}::integer END,
                xid = DEFAULT, nid = DEFAULT
              RETURNING ${columns}
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
