/**
 * Which IP addresses this server may connect to on the word of strangers. A client that names a server chooses the
 * address that we connect to, and must not reach through us what only this machine or its network can reach.
 *
 * The rule applies after resolution: to addresses in server names, to what our DNS servers answer, and to what the system
 * resolves while a connection is made. Addresses that the operator has configured are not subject to it.
 */
import dns, { type LookupAddress, Resolver } from "node:dns"
import { readFile } from "node:fs"
import { BlockList, isIP, type LookupFunction } from "node:net"

/** The allowed addresses: public ones; public and loopback ones, for tests; or all. */
export type AddressPolicy = "public" | "loopback" | "any"

/** Special-purpose networks that are not reachable globally (the IANA registries of RFC 6890). */
const privateNetworks = {
  ipv4: [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4"
  ],
  // Addresses that embed an IPv4 address (mapped, translated, NAT64, 6to4, Teredo) are refused altogether.
  ipv6: [
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8"
  ]
}

const loopbackNetworks = { ipv4: ["127.0.0.0/8"], ipv6: ["::1/128", "::ffff:127.0.0.0/104"] }

type Family = "ipv4" | "ipv6"

const listOf = (family: Family, networks: ReadonlyArray<string>): BlockList => {
  const list = new BlockList()
  for (const network of networks) {
    const [address, prefix] = network.split("/")
    list.addSubnet(address!, Number(prefix), family)
  }
  return list
}

/** One list for each family: in one list the IPv4 addresses that are written as IPv6 would block all of IPv4. */
const listsOf = ({ ipv4, ipv6 }: { readonly [family in Family]: ReadonlyArray<string> }) => ({
  ipv4: listOf("ipv4", ipv4),
  ipv6: listOf("ipv6", ipv6)
})

const notPublic = listsOf(privateNetworks)
const loopback = listsOf(loopbackNetworks)

/** True for host names: their addresses are checked after resolution. An IPv6 address may be in brackets. */
export const isAllowedHost = (policy: AddressPolicy, host: string): boolean => {
  const address = host.replace(/^\[|\]$/g, "")
  const version = isIP(address)
  if (version === 0 || policy === "any") return true
  const family = version === 4 ? "ipv4" : "ipv6"
  if (!notPublic[family].check(address, family)) return true
  return policy === "loopback" && loopback[family].check(address, family)
}

/** How long a DNS server may take, in ms, and how often it is asked. */
export const resolverOptions = { timeout: 2_000, tries: 2 }

type Answer = (error: NodeJS.ErrnoException | null, addresses: ReadonlyArray<LookupAddress>) => void

const askDns = (hostname: string, answer: Answer): void => {
  const resolver = new Resolver(resolverOptions)
  const found: Array<LookupAddress> = []
  let asked = 2
  const collect = (family: 4 | 6) => (error: NodeJS.ErrnoException | null, addresses: ReadonlyArray<string>) => {
    if (error === null) for (const address of addresses) found.push({ address, family })
    if (--asked === 0) answer(found.length === 0 ? error : null, found)
  }
  resolver.resolve4(hostname, collect(4))
  resolver.resolve6(hostname, collect(6))
}

/**
 * The addresses of a host. The system's own function occupies a thread until DNS has answered, of which there are two for such work: the
 * names that strangers choose, whose DNS servers may stay silent, would hold up every other connection. It is asked for the names of
 * the list that the machine has itself, and where a policy allows private networks, whose names may be known to nothing else.
 */
const resolve = (policy: AddressPolicy, hostname: string, answer: Answer): void => {
  const askSystem = () => dns.lookup(hostname, { all: true }, answer)
  if (policy === "public") {
    readFile("/etc/hosts", "utf8", (_, list = "") =>
      list.split(/\s+/).includes(hostname.toLowerCase()) ? askSystem() : askDns(hostname, answer)
    )
  } else askSystem()
}

/** Finds the addresses of a host that are allowed. For the agents of Node's HTTP clients. */
export const lookupAllowed =
  (policy: AddressPolicy): LookupFunction =>
  (hostname, options, callback) => {
    resolve(policy, hostname, (error, addresses) => {
      if (error !== null) return callback(error, [])
      const allowed = addresses.filter(({ address }) => isAllowedHost(policy, address))
      const first = allowed[0]
      if (first === undefined) {
        return callback(Object.assign(new Error(`${hostname} has no public address`), { code: "ENOTFOUND" }), [])
      }
      if (options.all) callback(null, allowed)
      else callback(null, first.address, first.family)
    })
  }
