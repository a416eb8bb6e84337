import { sign } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  decodeBase64,
  exportSigningKey,
  exportVerifyKey,
  generateSigningKey,
  importSigningKey,
  importVerifyKey,
  isKeyId,
  type SigningKey,
  signJson,
  verifyBytes,
  verifyJson,
  verifyKeyOf
} from "@greenroom/room/Signing"
import { Result } from "effect"

const domain = "domain" as ServerName
const secret = Buffer.from("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", "base64")
const exampleKey = Result.getOrThrow(importSigningKey(domain, "ed25519:1", secret))
const signed = (object: JsonObject, key: SigningKey): JsonObject => Result.getOrThrow(signJson(object, key))
const keysOf = (key: SigningKey) => new Map([[key.keyId, verifyKeyOf(key)]])

describe("Signing", () => {
  it("signatures of OpenSSL are verified, and a key of small order, which verifies any signature, is refused", () => {
    const bytes = Buffer.from("some bytes")
    const signature = sign(null, bytes, exampleKey.secretKey)
    assert.isTrue(verifyBytes(bytes, signature, verifyKeyOf(exampleKey)))
    assert.isFalse(verifyBytes(bytes, signature.subarray(1), verifyKeyOf(exampleKey)))
    const neutral = Buffer.concat([Buffer.from([1]), Buffer.alloc(31)])
    const ofNeutral = Result.getOrThrow(importVerifyKey(neutral))
    const signsAnything = Buffer.concat([neutral, Buffer.alloc(32)])
    assert.isFalse(verifyBytes(bytes, signsAnything, ofNeutral))
  })

  it("the examples of the specification have the published signatures", () => {
    assert.deepStrictEqual(signed({}, exampleKey), {
      signatures: {
        domain: {
          "ed25519:1": "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"
        }
      }
    })
    assert.deepStrictEqual(signed({ two: "Two", one: 1 }, exampleKey).signatures, {
      domain: {
        "ed25519:1": "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"
      }
    })
  })

  it("signing keeps the signatures of other servers and does not cover `unsigned`", () => {
    const other = generateSigningKey("other.example" as ServerName, "ed25519:a")
    const both = signed(signed({ a: 1 }, exampleKey), other)
    const annotated = { ...both, unsigned: { age: 5 } }
    assert.isTrue(Result.isSuccess(verifyJson(annotated, domain, keysOf(exampleKey))))
    assert.isTrue(Result.isSuccess(verifyJson(annotated, other.serverName, keysOf(other))))
  })

  it("altered objects, other keys, absent and malformed signatures are refused", () => {
    const object = signed({ a: 1 }, exampleKey)
    const stranger = generateSigningKey(domain, "ed25519:1")
    const refused = (jsonObject: JsonObject, key = exampleKey) =>
      assert.isTrue(Result.isFailure(verifyJson(jsonObject, domain, keysOf(key))))
    refused({ ...object, a: 2 })
    refused(object, stranger)
    refused({ a: 1 })
    for (const signatures of [
      null,
      [],
      "x",
      { domain: null },
      { domain: { "ed25519:1": 1 } },
      { domain: { "ed25519:1": "%" } }
    ]) {
      refused({ a: 1, signatures })
    }
    assert.isTrue(Result.isFailure(verifyJson(object, domain, new Map())))
    assert.isTrue(Result.isFailure(signJson({ a: 0.5 }, exampleKey)))
  })

  it("keys are exported as 32 bytes", () => {
    assert.deepStrictEqual(Buffer.from(exportSigningKey(exampleKey)), secret)
    const bytes = exportVerifyKey(verifyKeyOf(exampleKey))
    assert.strictEqual(bytes.length, 32)
    const keys = new Map([["ed25519:1", Result.getOrThrow(importVerifyKey(bytes))]])
    assert.isTrue(Result.isSuccess(verifyJson(signed({ a: 1 }, exampleKey), domain, keys)))
    assert.isTrue(Result.isFailure(importVerifyKey(new Uint8Array(31))))
    assert.isTrue(Result.isFailure(importSigningKey(domain, "ed25519:1", new Uint8Array(33))))
  })

  it("malformed key IDs and base64 are recognised", () => {
    assert.isTrue(isKeyId("ed25519:a_1"))
    assert.isFalse(isKeyId("rsa:1"))
    assert.isFalse(isKeyId("ed25519:"))
    assert.deepStrictEqual(decodeBase64("AQ=="), Buffer.from([1]))
    assert.isUndefined(decodeBase64("a b"))
  })
})
