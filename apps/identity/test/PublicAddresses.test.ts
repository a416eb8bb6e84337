import { assert, describe, it } from "@effect/vitest"
import { isPrivateAddress, lookupPublic } from "../src/PublicAddresses.ts"

describe("PublicAddresses", () => {
  it("addresses of this machine and of private networks are not public, however they are written", () => {
    for (const address of [
      "127.0.0.1",
      "127.255.0.1",
      "0.0.0.0",
      "10.1.2.3",
      "172.31.0.1",
      "192.168.1.1",
      "169.254.169.254",
      "100.64.0.1",
      "224.0.0.1",
      "255.255.255.255",
      "::",
      "::1",
      "[::1]",
      "::ffff:127.0.0.1",
      "::ffff:7f00:1",
      "64:ff9b::7f00:1",
      "fd00::1",
      "fe80::1",
      "ff02::1"
    ]) {
      assert.isTrue(isPrivateAddress(address), address)
    }
    for (const address of ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "[2606:4700::1111]", "example.org"]) {
      assert.isFalse(isPrivateAddress(address), address)
    }
  })

  it("a name that leads to this machine leads nowhere", async () => {
    const error = await new Promise<NodeJS.ErrnoException | null>((resolve) =>
      lookupPublic("localhost", { all: true }, (failure) => resolve(failure))
    )
    assert.strictEqual(error?.code, "ENOTFOUND")
  })
})
