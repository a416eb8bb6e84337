/**
 * Keeps tests off the DNS of the network. A name is resolved by `/etc/hosts`, or by a DNS server on this machine that the test names; any
 * other name does not exist. Loaded into the processes of vitest, and by `nodeOptions` into programs that tests start.
 */
import dns from "node:dns"
import * as fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import { isIP } from "node:net"

/** The value of NODE_OPTIONS for a program of Node.js that a test starts. */
export const nodeOptions = `--import=${import.meta.url}`

const hosts = new Set(fs.readFileSync("/etc/hosts", "utf8").split(/\s+/))

const isOfThisMachine = (name: unknown): boolean =>
  typeof name !== "string" || isIP(name) !== 0 || /(^|\.)localhost$/.test(name) || hosts.has(name)

const isLoopback = (server: string): boolean => /^(127\.|::1$|\[::1\])/.test(server)

const absent = (name: unknown) =>
  Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), {
    code: "ENOTFOUND",
    syscall: "getaddrinfo",
    hostname: name
  })

/** Answers with ENOTFOUND unless `isAllowed` is true for the name and the object of the call. */
const guard = (
  owner: object,
  names: ReadonlyArray<string>,
  isAllowed: (name: unknown, resolver: { readonly getServers: () => ReadonlyArray<string> }) => boolean
): void => {
  for (const name of names) {
    const original = Reflect.get(owner, name)
    if (typeof original !== "function") continue
    Reflect.set(owner, name, function (this: dns.Resolver, ...args: ReadonlyArray<unknown>) {
      if (isAllowed(args[0], this ?? dns)) return Reflect.apply(original, this, args)
      const callback = args.at(-1)
      if (typeof callback !== "function") return Promise.reject(absent(args[0]))
      process.nextTick(callback as (error: Error) => void, absent(args[0]))
      return {}
    })
  }
}

const queriesOf = (owner: object) => Object.getOwnPropertyNames(owner).filter((name) => /^(resolve|reverse)/.test(name))

for (const owner of [dns, dns.promises]) guard(owner, ["lookup"], isOfThisMachine)
for (const owner of [dns.Resolver.prototype, dns.promises.Resolver.prototype, dns, dns.promises]) {
  guard(owner, queriesOf(owner), (_, resolver) => resolver.getServers().every(isLoopback))
}
syncBuiltinESMExports()
