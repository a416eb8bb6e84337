/**
 * Logins of browsers on the pages of the OAuth 2.0 API: a cookie, valid for an hour. They give no access to the client-server
 * API, and end when the password changes or the account is deactivated or locked.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { newSecret } from "@greenroom/store/Secrets"
import { Clock, Context, Effect, Layer, Option, Redacted } from "effect"
import { addressKey } from "../../runtime/AddressKey.ts"
import { AccountStandings, lockedError } from "../AccountStandings.ts"
import { awaitingApproval } from "../Credentials.ts"
import { passwordFingerprint } from "./internal/passwordFingerprint.ts"

/** How long a browser is logged in, in ms. */
export const browserSessionTtl = 3_600_000
const maxPerAddress = 1_000

/** The user of a browser. */
export interface BrowserUser {
  readonly userId: UserId
  /** A fingerprint of the password of the account. */
  readonly password: string
}

const tooMany = new LimitExceeded({ error: "Too many logins from your address", retry_after_ms: 60_000 })

const make = Effect.gen(function* () {
  const sessions = yield* LoginSessionStore
  const accounts = yield* AccountStore
  const standings = yield* AccountStandings

  const active = Effect.fnUntraced(function* (userId: UserId) {
    const account = yield* accounts.find(userId)
    return Option.filter(
      account,
      ({ awaitingApproval, deactivatedAt }) =>
        deactivatedAt === undefined && !awaitingApproval && !standings.of(userId).locked
    )
  })

  const find = Effect.fnUntraced(function* (secret: string) {
    const found = yield* sessions.find(Redacted.make(secret))
    return Option.filter(found, ({ purpose }) => purpose === "browser")
  })

  return BrowserSessions.of({
    begin: Effect.fn("BrowserSessions.begin")(function* (userId, address, verified) {
      const account = yield* active(userId)
      if (Option.isNone(account)) {
        const waits = Option.exists(yield* accounts.find(userId), (found) => found.awaitingApproval)
        return yield* waits ? awaitingApproval : lockedError
      }
      const secret = newSecret()
      const created = yield* sessions.create(
        {
          secret: Redacted.make(secret),
          purpose: "browser",
          progress: {
            userId,
            password: passwordFingerprint(verified ?? account.value.passwordHash)
          } satisfies BrowserUser,
          address: `browser ${addressKey(address)}`,
          expiresAt: (yield* Clock.currentTimeMillis) + browserSessionTtl
        },
        maxPerAddress
      )
      return created ? secret : yield* tooMany
    }),
    userOf: Effect.fn("BrowserSessions.userOf")(function* (secret) {
      const found = yield* find(secret)
      if (Option.isNone(found)) return Option.none()
      const user: BrowserUser = found.value.progress
      const account = yield* active(user.userId)
      return Option.isSome(account) && passwordFingerprint(account.value.passwordHash) === user.password
        ? Option.some({ user, passwordHash: account.value.passwordHash })
        : Option.none()
    }),
    end: Effect.fn("BrowserSessions.end")(function* (secret) {
      const found = yield* find(secret)
      if (Option.isSome(found)) yield* sessions.end(found.value)
    })
  })
})

/** Logins of browsers on the pages of the OAuth 2.0 API. */
export class BrowserSessions extends Context.Service<
  BrowserSessions,
  {
    /**
     * The secret that the browser keeps. `verified` is the hash of the password that the user has shown. Errors: M_USER_LOCKED,
     * M_LIMIT_EXCEEDED.
     */
    readonly begin: (
      userId: UserId,
      address: string,
      verified?: Redacted.Redacted
    ) => Effect.Effect<string, MatrixError>
    /** The user of a browser, and the hash of the password that the account has. */
    readonly userOf: (
      secret: string
    ) => Effect.Effect<
      Option.Option<{ readonly user: BrowserUser; readonly passwordHash: Redacted.Redacted | undefined }>
    >
    readonly end: (secret: string) => Effect.Effect<void>
  }
>()("greenroom/actors/BrowserSessions") {
  static readonly layer = Layer.effect(BrowserSessions, make)
}
