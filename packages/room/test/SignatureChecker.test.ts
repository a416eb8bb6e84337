import { createHash, generateKeyPairSync, hash, type KeyObject, sign } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { checkerCurve, type SignatureBatch, SignatureChecker } from "@greenroom/room/SignatureChecker"
import { exportVerifyKey, importVerifyKey, verifyBytes } from "@greenroom/room/Signing"
import { Result } from "effect"

const order = 2n ** 252n + 27742317777372353535851937790883648493n
const prime = 2n ** 255n - 19n

const numberOf = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`)
const bytesOf = (number: bigint): Buffer => Buffer.from(number.toString(16).padStart(64, "0"), "hex").reverse()

interface Signed {
  readonly key: Uint8Array
  readonly text: Uint8Array
  readonly signature: Uint8Array
}

const batchOf = (signed: ReadonlyArray<Signed>): SignatureBatch => {
  const keys = [...new Set(signed.map(({ key }) => Buffer.from(key).toString("hex")))]
  let end = 0
  return {
    texts: Buffer.concat(signed.map(({ text }) => text)),
    ends: Uint32Array.from(signed, ({ text }) => (end += text.length)),
    signatures: Buffer.concat(signed.map(({ signature }) => signature)),
    keys: Buffer.from(keys.join(""), "hex"),
    keyOf: Uint32Array.from(signed, ({ key }) => keys.indexOf(Buffer.from(key).toString("hex")))
  }
}

const isRight = (signature: Uint8Array, text: Uint8Array, key: Uint8Array): boolean =>
  verifyBytes(text, signature, Result.getOrThrow(importVerifyKey(key)))

/** A checker as it is in a thread, made from its text; `asked` counts what libsodium decides. */
const makeChecker = () => {
  const decided = { asked: 0 }
  const Checker = new Function(`return ${SignatureChecker}`)() as typeof SignatureChecker
  const checker = new Checker({
    curve: checkerCurve(),
    isRight: (signature, text, key) => {
      decided.asked++
      return isRight(signature, text, key)
    },
    sha512: (bytes) => hash("sha512", bytes, "buffer")
  })
  return {
    check: (signed: ReadonlyArray<Signed>) => {
      decided.asked = 0
      return [...checker.check(batchOf(signed))].map((result) => result === 1)
    },
    decided
  }
}

const texts = (count: number): ReadonlyArray<Uint8Array> =>
  Array.from({ length: count }, (_, index) => Buffer.from(`text ${index} ${"é".repeat(index % 300)}`))

const signedBy = (secretKey: KeyObject, key: Uint8Array, count: number): ReadonlyArray<Signed> =>
  texts(count).map((text) => ({ key, text, signature: sign(null, text, secretKey) }))

const newKey = () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519")
  return { secretKey: privateKey, key: exportVerifyKey(publicKey) }
}

/** The secret factor of a key, by which signatures can be made that no honest signer makes. */
const factorOf = (secretKey: KeyObject): bigint => {
  const seed = secretKey.export({ format: "der", type: "pkcs8" }).subarray(-32)
  const half = createHash("sha512").update(seed).digest().subarray(0, 32)
  half[0]! &= 248
  half[31] = (half[31]! & 127) | 64
  return numberOf(half) % order
}

const hashOf = (r: Uint8Array, key: Uint8Array, text: Uint8Array): bigint =>
  numberOf(createHash("sha512").update(r).update(key).update(text).digest()) % order

/** A key whose table has been made. */
const withTable = (checker: ReturnType<typeof makeChecker>) => {
  const { key, secretKey } = newKey()
  const signed = signedBy(secretKey, key, 501)
  assert.isTrue(checker.check(signed).every((right) => right))
  assert.strictEqual(checker.decided.asked, 501)
  return { key, secretKey, signed }
}

describe("SignatureChecker", () => {
  it("right signatures of a key that has signed many are found without libsodium, which decides all others", () => {
    const checker = makeChecker()
    const { signed } = withTable(checker)
    assert.isTrue(checker.check(signed).every((right) => right))
    assert.strictEqual(checker.decided.asked, 0)
    // Each bit of a signature once, and a bit of each text.
    const wrong = Array.from({ length: 512 }, (_, bit): Signed => {
      const { signature, ...rest } = signed[bit % 501]!
      const changed = Uint8Array.from(signature)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      return { ...rest, signature: changed }
    })
    const otherTexts = signed.map(({ text, ...rest }, index): Signed => {
      const changed = Uint8Array.from(text)
      changed[index % changed.length]! ^= 1 << (index & 7)
      return { ...rest, text: changed }
    })
    assert.isFalse(checker.check(wrong).some((right) => right))
    assert.strictEqual(checker.decided.asked, wrong.length)
    assert.isFalse(checker.check(otherTexts).some((right) => right))
    const mixed = signed.flatMap((right, index) => [right, wrong[index]!])
    assert.deepStrictEqual(
      checker.check(mixed),
      mixed.map((_, index) => index % 2 === 0)
    )
  })

  it("signatures of many keys in one batch are checked by the key of each", () => {
    const checker = makeChecker()
    const known = Array.from({ length: 6 }, () => withTable(checker))
    const others = Array.from({ length: 20 }, newKey).flatMap(({ key, secretKey }) => signedBy(secretKey, key, 3))
    const all = [...known.flatMap(({ signed }) => signed.slice(0, 31)), ...others]
    const shuffled = all.toSorted((a, b) => Buffer.compare(a.signature, b.signature))
    assert.isTrue(checker.check(shuffled).every((right) => right))
    // Four keys have tables.
    assert.strictEqual(checker.decided.asked, 2 * 31 + others.length)
    const byOthers = shuffled.map((signed, index) => ({ ...signed, key: shuffled[(index + 1) % shuffled.length]!.key }))
    assert.deepStrictEqual(
      checker.check(byOthers),
      byOthers.map(({ key }, index) => Buffer.compare(key, shuffled[index]!.key) === 0)
    )
  })

  it("a signature whose s is not below the order, and one whose R is the neutral point, are refused as by libsodium", () => {
    const checker = makeChecker()
    const { key, secretKey, signed } = withTable(checker)
    const malleable = signed.map((right): Signed => {
      const s = numberOf(right.signature.subarray(32)) + order
      return { ...right, signature: Buffer.concat([right.signature.subarray(0, 32), bytesOf(s)]) }
    })
    assert.isFalse(checker.check(malleable).some((right) => right))
    const neutral = bytesOf(1n)
    const factor = factorOf(secretKey)
    const withNeutral = signed.map(({ text }): Signed => {
      const s = (hashOf(neutral, key, text) * factor) % order
      return { key, text, signature: Buffer.concat([neutral, bytesOf(s)]) }
    })
    assert.isFalse(withNeutral.some(({ signature, text }) => isRight(signature, text, key)))
    assert.isFalse(checker.check(withNeutral).some((right) => right))
  })

  it("a signature whose s belongs to an R with one other bit is refused, whichever bit it is", () => {
    const checker = makeChecker()
    const { key, secretKey, signed } = withTable(checker)
    const factor = factorOf(secretKey)
    const { key: r, secretKey: rSecret } = newKey()
    const rFactor = factorOf(rSecret)
    const forOther = (other: Uint8Array, text: Uint8Array): Signed => {
      const s = (rFactor + hashOf(other, key, text) * factor) % order
      return { key, text, signature: Buffer.concat([other, bytesOf(s)]) }
    }
    const others = Array.from({ length: 256 }, (_, bit) => {
      const other = Uint8Array.from(r)
      other[bit >> 3]! ^= 1 << (bit & 7)
      return forOther(other, signed[bit]!.text)
    })
    assert.isTrue(checker.check(signed.map(({ text }) => forOther(r, text))).every((right) => right))
    assert.isFalse(checker.check(others).some((right) => right))
  })

  it("signatures by a key with a part of small order are right as by libsodium", () => {
    const checker = makeChecker()
    const { key, secretKey } = newKey()
    const factor = factorOf(secretKey)
    // (-x, -y) is the sum of the key and the point of order 2.
    const y = prime - (numberOf(key) & (2n ** 255n - 1n))
    const mixed = bytesOf(y + ((numberOf(key) >> 255n) ^ 1n) * 2n ** 255n)
    const { key: r, secretKey: rSecret } = newKey()
    const rFactor = factorOf(rSecret)
    const signed = texts(1_200).map((text): Signed => {
      const s = (rFactor + hashOf(r, mixed, text) * factor) % order
      return { key: mixed, text, signature: Buffer.concat([r, bytesOf(s)]) }
    })
    const byLibsodium = signed.map(({ signature, text }) => isRight(signature, text, mixed))
    assert.deepStrictEqual(checker.check(signed), byLibsodium)
    assert.deepStrictEqual(checker.check(signed), byLibsodium)
    assert.isBelow(checker.decided.asked, signed.length)
  })
})
