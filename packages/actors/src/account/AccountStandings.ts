/**
 * The accounts that administrators have locked or suspended, or given rates of their own. Every node holds all of them in memory,
 * because they are few and every request needs them. Changes arrive with the log.
 *
 * Source: "Account moderation" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { UserLocked } from "@greenroom/protocol/MatrixError"
import {
  type AccountRate,
  type AccountStanding,
  type AccountStandingChange,
  AccountStandingStore,
  accountStandings
} from "@greenroom/store/AccountStandingStore"
import { EventLog } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { Context, Effect, Layer, type Scope } from "effect"
import { SessionRevocations } from "../runtime/SessionRevocations.ts"

/** The restrictions of an account. */
export type Standing = Pick<AccountStanding, "locked" | "suspended">

export type { AccountRate }

const good: Standing = { locked: false, suspended: false }

/** The answer to every request of a locked account except logout. */
export const lockedError = new UserLocked({ error: "This account has been locked", soft_logout: true })

const make = Effect.gen(function* () {
  const store = yield* AccountStandingStore
  const { followedEverywhere } = yield* SessionRevocations
  const standings = new Map<UserId, AccountStanding>()
  const observers = new Set<(standing: AccountStanding) => void>()
  /** While the standings are being loaded: the accounts that newer rows of the log have changed. */
  let newer: Set<UserId> | undefined = new Set<UserId>()

  const apply = (standing: AccountStanding) => {
    const { locked, rate, suspended, userId } = standing
    if (locked || suspended || rate !== null) standings.set(userId, standing)
    else standings.delete(userId)
    for (const observe of observers) observe(standing)
  }

  yield* (yield* EventLog).follow((slice) =>
    Effect.sync(() => {
      for (const { row } of rowsOf(slice.rows, accountStandings)) {
        newer?.add(row.userId)
        apply(row)
      }
    })
  )
  for (const standing of yield* store.all) if (!newer.has(standing.userId)) apply(standing)
  newer = undefined

  return AccountStandings.of({
    of: (userId) => standings.get(userId) ?? good,
    rateOf: (userId) => standings.get(userId)?.rate ?? undefined,
    set: Effect.fn("AccountStandings.set")(function* (userId, change) {
      const standing = yield* store.set(userId, change)
      apply(standing)
      yield* followedEverywhere
      return standing
    }),
    observe: (observer) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => observers.add(observer)),
          () => Effect.sync(() => observers.delete(observer))
        )
      )
  })
})

/** The locked and suspended accounts, in the memory of every node. */
export class AccountStandings extends Context.Service<
  AccountStandings,
  {
    /** The restrictions of an account, as far as this node has read the log. */
    readonly of: (userId: UserId) => Standing
    /** The rate that was set for an account alone. */
    readonly rateOf: (userId: UserId) => AccountRate | undefined
    /** Locks, unlocks, suspends or unsuspends an account, or changes its rate, at all nodes. */
    readonly set: (userId: UserId, change: AccountStandingChange) => Effect.Effect<Standing>
    /** Calls `observer` with every change, until the scope closes. */
    readonly observe: (observer: (standing: AccountStanding) => void) => Effect.Effect<void, never, Scope.Scope>
  }
>()("greenroom/actors/AccountStandings") {
  static readonly layer = Layer.effect(AccountStandings, make)
}
