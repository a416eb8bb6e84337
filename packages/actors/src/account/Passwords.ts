/**
 * Password hashes: Argon2id (RFC 9106), stored as PHC strings (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`), which
 * contain their cost. Hashing runs on at most two threads of its own: many logins queue instead of taking all memory and
 * processors.
 */
import { randomBytes, timingSafeEqual } from "node:crypto"
import { availableParallelism } from "node:os"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Pool from "effect/Pool"
import * as Redacted from "effect/Redacted"
import { makeHashThread } from "./internal/HashThread.ts"

/** The cost of a hash: `memory` in KiB, `passes` over it, `parallelism` in lanes. */
export interface PasswordCost {
  readonly memory: number
  readonly passes: number
  readonly parallelism: number
}

/** 19 MiB and two passes: the recommendation of OWASP for Argon2id. */
const defaultCost: PasswordCost = { memory: 19_456, passes: 2, parallelism: 1 }

/** One processor is left for other work. */
const concurrentHashes = Math.max(1, Math.min(2, availableParallelism() - 1))
/** How long an idle thread is kept. */
const threadIdleTime = "1 minute"
const saltBytes = 16
const hashBytes = 32

interface Parsed {
  readonly cost: PasswordCost
  readonly salt: Uint8Array
  readonly hash: Uint8Array
}

const phcPattern = /^\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/

const parse = (text: string): Option.Option<Parsed> => {
  const match = phcPattern.exec(text)
  if (match === null) return Option.none()
  return Option.some({
    cost: { memory: Number(match[1]), passes: Number(match[2]), parallelism: Number(match[3]) },
    salt: Buffer.from(match[4]!, "base64"),
    hash: Buffer.from(match[5]!, "base64")
  })
}

const format = ({ cost, salt, hash }: Parsed): string => {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64").replaceAll("=", "")
  const { memory, passes, parallelism } = cost
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${base64(salt)}$${base64(hash)}`
}

const sameCost = (a: PasswordCost, b: PasswordCost): boolean =>
  a.memory === b.memory && a.passes === b.passes && a.parallelism === b.parallelism

/** Whether the password was right, and whether its hash has an outdated cost. */
export interface Verdict {
  readonly correct: boolean
  readonly outdated: boolean
}

const make = Effect.fnUntraced(function* (wanted: PasswordCost) {
  const threads = yield* Pool.makeWithTTL({
    acquire: makeHashThread,
    min: 0,
    max: concurrentHashes,
    timeToLive: threadIdleTime
  })

  const derive = (password: Redacted.Redacted, cost: PasswordCost, salt: Uint8Array, length: number) => {
    const message = Redacted.value(password).normalize("NFC")
    return Effect.scoped(
      Effect.flatMap(Pool.get(threads), (thread) =>
        Effect.onError(thread.argon2id({ message, nonce: salt, tagLength: length, ...cost }), () =>
          Pool.invalidate(threads, thread)
        )
      )
    )
  }

  const hash = Effect.fn("Passwords.hash")(function* (password: Redacted.Redacted) {
    const salt = randomBytes(saltBytes)
    return format({ cost: wanted, salt, hash: yield* derive(password, wanted, salt, hashBytes) })
  })

  // The passwords of unknown users are compared with this hash.
  const decoy: Parsed = { cost: wanted, salt: randomBytes(saltBytes), hash: randomBytes(hashBytes) }

  const verify = Effect.fn("Passwords.verify")(function* (password: Redacted.Redacted, phc: string | undefined) {
    const known = phc === undefined ? Option.none() : parse(phc)
    const expected = Option.getOrElse(known, () => decoy)
    const actual = yield* derive(password, expected.cost, expected.salt, expected.hash.length)
    return {
      correct: timingSafeEqual(actual, expected.hash) && Option.isSome(known),
      outdated: !sameCost(expected.cost, wanted)
    }
  })

  return { hash, verify }
})

/** Argon2id hashes of passwords, computed by threads. */
export class Passwords extends Context.Service<
  Passwords,
  {
    /** The PHC string of a password, with a new salt. */
    readonly hash: (password: Redacted.Redacted) => Effect.Effect<string>
    /** Compares with a PHC string. Without one (no such user) it takes as long and is false. */
    readonly verify: (password: Redacted.Redacted, phc: string | undefined) => Effect.Effect<Verdict>
  }
>()("greenroom/actors/Passwords") {
  static readonly layerWith = (cost: PasswordCost) => Layer.effect(Passwords, make(cost))
  static readonly layer = Passwords.layerWith(defaultCost)
}
