import { assert, describe, it } from "@effect/vitest"
import { addressKey } from "../../src/runtime/AddressKey.ts"

describe("addressKey", () => {
  const keys = [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::FFFF:192.0.2.7", "192.0.2.7"],
    ["::ffff:c000:207", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:1:2::9", "2001:db8:1:2::/64"],
    ["2001:0db8:0001:0002:ffff::", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"]
  ] as const
  for (const [address, key] of keys) {
    it(`counts ${address} as ${key}`, () => {
      assert.strictEqual(addressKey(address), key)
    })
  }
})
