import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { isAllowedHost, lookupAllowed } from "../../src/federation/AddressPolicy.ts"

const loopback = ["127.0.0.1", "127.255.0.1", "::1", "[::1]", "::ffff:127.0.0.1", "::ffff:7f00:1"]
const privateAddresses = [
  "0.0.0.0",
  "10.1.2.3",
  "172.31.0.1",
  "192.168.1.1",
  "169.254.169.254",
  "100.64.0.1",
  "198.51.100.7",
  "224.0.0.1",
  "255.255.255.255",
  "::",
  "::ffff:10.0.0.1",
  "::127.0.0.1",
  "::ffff:0:127.0.0.1",
  "3fff::1",
  "5f00::1",
  "64:ff9b::7f00:1",
  "64:ff9b:1::a00:1",
  "2001::1",
  "2002:7f00:1::",
  "fd00::1",
  "fe80::1",
  "fec0::1",
  "ff02::1"
]
const others = ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "[2606:4700::1111]", "example.org"]

const unshare = ["--mount", "--net"]

/** Whether this account may make network namespaces. */
const hasNamespaces = (() => {
  try {
    execFileSync("unshare", [...unshare, "true"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
})()

describe("AddressPolicy", () => {
  it("addresses of this machine and of private networks are refused, however they are written", () => {
    for (const address of [...loopback, ...privateAddresses]) assert.isFalse(isAllowedHost("public", address), address)
    for (const address of others) assert.isTrue(isAllowedHost("public", address), address)
  })

  it("tests may reach this machine and nothing else that is private", () => {
    for (const address of privateAddresses) assert.isFalse(isAllowedHost("loopback", address), address)
    for (const address of [...loopback, ...others]) assert.isTrue(isAllowedHost("loopback", address), address)
  })

  it("an operator can allow every address", () => {
    for (const address of [...loopback, ...privateAddresses, ...others]) assert.isTrue(isAllowedHost("any", address))
  })

  it("a name that leads to this machine leads nowhere", async () => {
    const look = (policy: "public" | "loopback") =>
      new Promise<NodeJS.ErrnoException | null>((resolve) =>
        lookupAllowed(policy)("localhost", { all: true }, (failure) => resolve(failure))
      )
    assert.strictEqual((await look("public"))?.code, "ENOTFOUND")
    assert.isNull(await look("loopback"))
  })

  it.skipIf(!hasNamespaces)("names whose DNS servers stay silent do not hold up others", () => {
    const directory = mkdtempSync(path.join(tmpdir(), "greenroom-dns-"))
    try {
      const settings = path.join(directory, "resolv.conf")
      writeFileSync(settings, "nameserver 127.0.0.1\n")
      const program = fileURLToPath(new URL("programs/silentDns.ts", import.meta.url))
      const script = 'ip link set lo up && mount --bind "$1" /etc/resolv.conf && exec "$2" "$3"'
      const args = [...unshare, "sh", "-c", script, "sh", settings, process.execPath, program]
      const printed = execFileSync("unshare", args, { encoding: "utf8", env: { PATH: process.env.PATH } })
      assert.strictEqual(printed, 'known.test [{"address":"203.0.114.1","family":4}]\n')
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
