import { assert, describe, it } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { SessionCache } from "../../src/account/SessionCache.ts"

const cached = (tokenId: number, expiresAt?: number) => ({
  session: { userId: "@alice:example.org" as UserId, tokenId, deviceId: "phone" },
  expiresAt
})

describe("SessionCache", () => {
  it("the session that was not used for longest makes room", () => {
    const cache = new SessionCache(2)
    cache.add("one", cached(1), 0)
    cache.add("two", cached(2), 0)
    assert.strictEqual(cache.get("one", 0)?.tokenId, 1)
    cache.add("three", cached(3), 0)
    assert.strictEqual(cache.get("two", 0), undefined)
    assert.strictEqual(cache.get("one", 0)?.tokenId, 1)
    assert.strictEqual(cache.get("three", 0)?.tokenId, 3)
  })

  it("a token that was revoked while it was looked up is not kept", () => {
    const cache = new SessionCache(2)
    const before = cache.revocations
    cache.remove([1])
    cache.add("one", cached(1), before)
    assert.strictEqual(cache.get("one", 0), undefined)
  })

  it("an expired token is no session", () => {
    const cache = new SessionCache(2)
    cache.add("one", cached(1, 1_000), 0)
    assert.isDefined(cache.get("one", 999))
    assert.isUndefined(cache.get("one", 1_000))
  })

  it("a renewed token of the same login takes the place of the former one", () => {
    const cache = new SessionCache(2)
    cache.add("old", cached(1), 0)
    cache.add("new", cached(1), 0)
    assert.isUndefined(cache.get("old", 0))
    assert.isDefined(cache.get("new", 0))
  })

  it("returns the tokens that were used since the last call, with their addresses", () => {
    const cache = new SessionCache(2)
    cache.add("one", cached(1), 0)
    assert.deepStrictEqual(cache.takeUsed(), [[1, undefined]])
    assert.deepStrictEqual(cache.takeUsed(), [])
    cache.get("one", 0, "192.0.2.1")
    assert.deepStrictEqual(cache.takeUsed(), [[1, "192.0.2.1"]])
  })
})
