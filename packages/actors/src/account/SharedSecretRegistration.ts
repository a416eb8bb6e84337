/**
 * Registration by clients that know the operator's shared secret, such as tools for administrators of Synapse and public test suites.
 * Off unless a secret is configured.
 *
 * A nonce is valid for one minute, on every node: it contains its time and a signature.
 *
 * Source: "Shared-Secret Registration" of Synapse's administration API.
 */
import { createHmac, randomBytes } from "node:crypto"
import { Forbidden, InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { equalBytes } from "@greenroom/store/Secrets"
import { Clock, Context, Effect, Layer, Redacted } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Accounts } from "./Accounts.ts"
import type { Credentials, LoginDevice } from "./Credentials.ts"
import { LoginThrottle } from "./login/LoginThrottle.ts"

/** A registration request with the shared secret. */
export interface SharedSecretRequest extends LoginDevice {
  readonly nonce: string
  readonly username: string
  readonly password: Redacted.Redacted
  readonly admin: boolean
  readonly userType: string | undefined
  /** HMAC-SHA1 in hexadecimal digits, by the shared secret. */
  readonly mac: string
  /** The network address of the client. */
  readonly address: string
}

/** How long a nonce is valid, in milliseconds, and how far the clocks of nodes may differ. */
const nonceLifetime = 60_000

const off = new NotFound({ error: "Registration by a shared secret is not enabled" })
const wrongMac = new Forbidden({ error: "mac: does not match" })
const staleNonce = new InvalidParam({ error: "nonce: unknown or expired" })

const equal = (a: string, b: string): boolean => equalBytes(Buffer.from(a), Buffer.from(b))

const macOf = (
  secret: Redacted.Redacted,
  { admin, nonce, password, userType, username }: SharedSecretRequest
): string => {
  const parts = [nonce, username, Redacted.value(password), admin ? "admin" : "notadmin"]
  if (userType !== undefined) parts.push(userType)
  return createHmac("sha1", Redacted.value(secret)).update(parts.join("\0")).digest("hex")
}

const make = Effect.gen(function* () {
  const { registrationSharedSecret: secret } = yield* HomeServerConfig
  const accounts = yield* Accounts
  const store = yield* AccountStore
  const throttle = yield* LoginThrottle

  const signNonce = (secret: Redacted.Redacted, text: string): string =>
    createHmac("sha256", Redacted.value(secret)).update(`nonce ${text}`).digest("base64url")

  const nonce = Effect.gen(function* () {
    if (secret === undefined) return yield* off
    const text = `${yield* Clock.currentTimeMillis}.${randomBytes(12).toString("base64url")}`
    return `${text}.${signNonce(secret, text)}`
  })

  const checkNonce = Effect.fnUntraced(function* (secret: Redacted.Redacted, nonce: string) {
    const end = nonce.lastIndexOf(".")
    const text = nonce.slice(0, end)
    const age = (yield* Clock.currentTimeMillis) - Number(text.slice(0, text.indexOf(".")))
    if (end < 0 || !equal(nonce.slice(end + 1), signNonce(secret, text)) || !(Math.abs(age) <= nonceLifetime)) {
      return yield* staleNonce
    }
  })

  const register = Effect.fn("SharedSecretRegistration.register")(function* (
    request: SharedSecretRequest
  ): Effect.fn.Return<Credentials, MatrixError> {
    if (secret === undefined) return yield* off
    yield* checkNonce(secret, request.nonce)
    const check = Effect.suspend(() =>
      equal(request.mac.toLowerCase(), macOf(secret, request)) ? Effect.void : Effect.fail(wrongMac)
    )
    yield* throttle.attempt(`shared secret ${request.address}`, request.address, check)
    const wanted = yield* accounts.chooseUserId(request.username)
    const passwordHash = yield* accounts.hashPassword(request.password)
    const userId = yield* accounts.create({ userId: wanted, passwordHash, isNamed: true })
    if (request.admin) yield* store.setAdmin(userId, true)
    return yield* accounts.openSession(userId, request)
  })

  return SharedSecretRegistration.of({ nonce, register })
})

/** Registration with the operator's shared secret, as in Synapse. */
export class SharedSecretRegistration extends Context.Service<
  SharedSecretRegistration,
  {
    /** A nonce for one registration. Errors: M_NOT_FOUND if no secret is configured. */
    readonly nonce: Effect.Effect<string, MatrixError>
    /** Errors: M_FORBIDDEN for a wrong mac, M_INVALID_PARAM for a stale nonce, M_USER_IN_USE, M_INVALID_USERNAME. */
    readonly register: (request: SharedSecretRequest) => Effect.Effect<Credentials, MatrixError>
  }
>()("greenroom/actors/SharedSecretRegistration") {
  static readonly layer = Layer.effect(SharedSecretRegistration, make)
}
