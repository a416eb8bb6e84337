import { assert, describe, it } from "@effect/vitest"
import { contentHash } from "@greenroom/room/ContentHash"

describe("ContentHash", () => {
  it("the example of the specification has the published hash, whatever hashes, signatures and unsigned contain", () => {
    const event = {
      room_id: "!x:domain",
      sender: "@a:domain",
      origin: "domain",
      origin_server_ts: 1000000,
      type: "X",
      content: {},
      prev_events: [],
      auth_events: [],
      depth: 3
    }
    const expected = "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"
    assert.strictEqual(contentHash(event), expected)
    const withIgnoredKeys = { ...event, signatures: { a: {} }, hashes: { sha256: "x" }, unsigned: { age_ts: 1000000 } }
    assert.strictEqual(contentHash(withIgnoredKeys), expected)
  })

  it("values without a canonical form have no hash", () => {
    assert.throws(() => contentHash({ a: 0.5 }))
  })
})
