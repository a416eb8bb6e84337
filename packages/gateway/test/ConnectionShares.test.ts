import { assert, describe, it } from "@effect/vitest"
import { ConnectionShares } from "../src/ConnectionShares.ts"
import { trustProxies } from "../src/TrustedProxies.ts"

/** How many of ten connections are let in. */
const letIn = (address: string, isTrusted: (address: string) => boolean = () => false): number => {
  const shares = new ConnectionShares(3, isTrusted)
  return Array.from({ length: 10 }, () => shares.enter(address)).filter((leave) => leave !== undefined).length
}

describe("the connections of one address", () => {
  it("are bounded where it is public, for an IPv6 network as a whole", () => {
    for (const address of ["8.8.8.8", "::ffff:8.8.8.8", "2a00:1450::1"]) assert.strictEqual(letIn(address), 3, address)
    const shares = new ConnectionShares(1, () => false)
    assert.isDefined(shares.enter("2a00:1450::1"))
    assert.isUndefined(shares.enter("2a00:1450::2"))
    assert.isDefined(shares.enter("2a00:1450:0:1::1"))
  })

  it("are not bounded on this machine, in its network, and for trusted proxies", () => {
    const addresses = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "fe80::1%eth0", "fd00::1"]
    for (const address of addresses) assert.strictEqual(letIn(address), 10, address)
    const { isTrusted } = trustProxies(["8.8.8.0/24", "2a00:1450::/32"])
    for (const address of ["8.8.8.8", "::ffff:8.8.8.8", "2a00:1450::1"]) {
      assert.strictEqual(letIn(address, isTrusted), 10, address)
    }
    assert.strictEqual(letIn("8.8.4.4", isTrusted), 3)
  })

  it("make room for others of it when they end", () => {
    const shares = new ConnectionShares(2, () => false)
    const [first] = [shares.enter("8.8.8.8"), shares.enter("8.8.8.8")]
    assert.isUndefined(shares.enter("8.8.8.8"))
    first!()
    assert.isDefined(shares.enter("8.8.8.8"))
    assert.isUndefined(shares.enter("8.8.8.8"))
  })
})
