import { assert, describe, it } from "@effect/vitest"
import { contentHash } from "@greenroom/room/ContentHash"
import { Result } from "effect"

describe("ContentHash", () => {
  it("gives the hash that Matrix publishes as an example, whatever stands in hashes, signatures and unsigned", () => {
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
    const expected = Result.succeed("5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos")
    assert.deepStrictEqual(contentHash(event), expected)
    const dressed = { ...event, signatures: { a: {} }, hashes: { sha256: "x" }, unsigned: { age_ts: 1000000 } }
    assert.deepStrictEqual(contentHash(dressed), expected)
  })

  it("names values without a hash", () => {
    assert.isTrue(Result.isFailure(contentHash({ a: 0.5 })))
  })
})
