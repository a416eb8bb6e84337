import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Redacted } from "effect"
import { Passwords } from "../../src/account/Passwords.ts"

const cheap = { memory: 64, passes: 1, parallelism: 1 }
const password = (text: string) => Redacted.make(text)

describe("Passwords", () => {
  it.effect("a password is recognised, another one is not, and hashes of one password differ", () =>
    Effect.gen(function* () {
      const passwords = yield* Passwords
      const hash = yield* passwords.hash(password("correct horse"))
      assert.match(hash, /^\$argon2id\$v=19\$m=64,t=1,p=1\$/)
      assert.notStrictEqual(hash, yield* passwords.hash(password("correct horse")))
      assert.isTrue((yield* passwords.verify(password("correct horse"), hash)).correct)
      assert.isFalse((yield* passwords.verify(password("correct horsE"), hash)).correct)
      assert.isFalse((yield* passwords.verify(password("correct horse"), undefined)).correct)
      assert.isFalse((yield* passwords.verify(password("correct horse"), "$2b$10$somethingelse")).correct)
    }).pipe(Effect.provide(Passwords.layerWith(cheap)))
  )

  it.effect("a hash of another cost is still recognised, and known to be outdated", () =>
    Effect.gen(function* () {
      const old = yield* Effect.provide(
        Effect.flatMap(Passwords, (passwords) => passwords.hash(password("secret"))),
        Passwords.layerWith(cheap)
      )
      const passwords = yield* Passwords
      assert.deepStrictEqual(yield* passwords.verify(password("secret"), old), { correct: true, outdated: true })
      const renewed = yield* passwords.hash(password("secret"))
      assert.deepStrictEqual(yield* passwords.verify(password("secret"), renewed), { correct: true, outdated: false })
    }).pipe(Effect.provide(Passwords.layerWith({ ...cheap, memory: 128 })))
  )

  it.effect("a hash with an impossible cost is a defect, and the next hash succeeds", () =>
    Effect.gen(function* () {
      const passwords = yield* Passwords
      const impossible = "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2g"
      const exits = yield* Effect.forEach(
        [impossible, impossible, undefined],
        (phc) => Effect.exit(passwords.verify(password("secret"), phc)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(exits.map(Exit.hasDies), [true, true, false])
      assert.isTrue((yield* passwords.verify(password("secret"), yield* passwords.hash(password("secret")))).correct)
    }).pipe(Effect.provide(Passwords.layerWith(cheap)))
  )

  it.effect("the same characters typed in another Unicode form are the same password", () =>
    Effect.gen(function* () {
      const passwords = yield* Passwords
      const hash = yield* passwords.hash(password("\u00fcn\u00efc\u00f6d\u00e9"))
      assert.isTrue((yield* passwords.verify(password("u\u0308ni\u0308co\u0308de\u0301"), hash)).correct)
    }).pipe(Effect.provide(Passwords.layerWith(cheap)))
  )
})
