/**
 * Limits guesses of passwords and codes: counts failures per account and per address, on all nodes together.
 * An address counts by its `addressKey`.
 */
import { LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { type AttemptRate, LoginAttemptStore } from "@greenroom/store/LoginAttemptStore"
import { Context, Effect, Layer } from "effect"
import { addressKey } from "../../runtime/AddressKey.ts"
import { periodicallyOnce } from "../../runtime/Singletons.ts"
import { LoginConfig } from "./LoginConfig.ts"
import { loginDefaults } from "./LoginOptions.ts"

const sweepInterval = "10 minutes"

const refusal = (wait: number) =>
  new LimitExceeded({ error: "Too many attempts, try again later", retry_after_ms: Math.ceil(wait) })

/** Limits failed logins per account and per address, for all nodes together. */
export class LoginThrottle extends Context.Service<
  LoginThrottle,
  {
    /**
     * Runs an attempt for an account from an address, unless too many failed. An attempt fails with M_FORBIDDEN.
     * Errors: M_LIMIT_EXCEEDED.
     */
    readonly attempt: <A, R>(
      account: string,
      address: string,
      effect: Effect.Effect<A, MatrixError, R>
    ) => Effect.Effect<A, MatrixError, R>
    /** Counts one use of `key` against a rate. Errors: M_LIMIT_EXCEEDED. */
    readonly take: (key: string, rate: AttemptRate) => Effect.Effect<void, LimitExceeded>
    /** Counts a mail. Errors: M_LIMIT_EXCEEDED. */
    readonly mail: (email: string, address: string) => Effect.Effect<void, LimitExceeded>
  }
>()("greenroom/actors/LoginThrottle") {
  static readonly layer = Layer.effect(
    LoginThrottle,
    Effect.gen(function* () {
      const login = yield* LoginConfig
      const rates = { ...loginDefaults, ...login }
      const store = yield* LoginAttemptStore

      const take = Effect.fnUntraced(function* (key: string, rate: AttemptRate) {
        const wait = yield* store.take(key, rate)
        if (wait > 0) return yield* refusal(wait)
      })

      const attempt = Effect.fnUntraced(function* <A, R>(
        account: string,
        address: string,
        effect: Effect.Effect<A, MatrixError, R>
      ) {
        const byAccount = `account ${account}`
        const byAddress = `address ${addressKey(address)}`
        yield* take(byAddress, rates.addressAttempts)
        yield* Effect.tapError(take(byAccount, rates.accountAttempts), () => store.giveBack(byAddress))
        const giveBack = Effect.andThen(store.giveBack(byAddress), store.giveBack(byAccount))
        return yield* effect.pipe(
          Effect.tap(() => giveBack),
          Effect.tapError((error) => (error._tag === "M_FORBIDDEN" ? Effect.void : giveBack))
        )
      })

      const slowest = Math.max(rates.addressAttempts.window, rates.accountAttempts.window, rates.mailRate.window)
      yield* periodicallyOnce("Deleting old login attempts", sweepInterval, store.forget(slowest))

      return LoginThrottle.of({
        take,
        attempt,
        mail: (email, address) =>
          Effect.andThen(
            take(`mails from ${addressKey(address)}`, { ...rates.mailRate, limit: rates.mailRate.limit * 10 }),
            take(`mails to ${email}`, rates.mailRate)
          )
      })
    })
  )
}
