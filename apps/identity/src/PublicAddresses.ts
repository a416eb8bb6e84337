/**
 * Keeps requests to servers that strangers name on the public Internet: whoever binds an address chooses the home server
 * that is told, and must not reach what only this machine can.
 */
import dns from "node:dns"
import { BlockList, isIP, type LookupFunction } from "node:net"

const ipv4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/4",
  "240.0.0.0/4"
]
const ipv6 = ["::/96", "::ffff:0:0/96", "64:ff9b::/96", "100::/64", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8"]

const listOf = (family: "ipv4" | "ipv6", networks: ReadonlyArray<string>): BlockList => {
  const list = new BlockList()
  for (const network of networks) {
    const [address, prefix] = network.split("/")
    list.addSubnet(address!, Number(prefix), family)
  }
  return list
}

/** One list for each family: in one list the IPv4 addresses that are written as IPv6 would block all of IPv4. */
const blockedIpv4 = listOf("ipv4", ipv4)
const blockedIpv6 = listOf("ipv6", ipv6)

/** True for an IP address, with or without brackets, of a network that is not public. */
export const isPrivateAddress = (host: string): boolean => {
  const address = host.replace(/^\[|\]$/g, "")
  switch (isIP(address)) {
    case 4:
      return blockedIpv4.check(address, "ipv4")
    case 6:
      return blockedIpv6.check(address, "ipv6")
    default:
      return false
  }
}

/** Looks up a host and finds none of its addresses that are not public. For the agents of Node's HTTP clients. */
export const lookupPublic: LookupFunction = (hostname, options, callback) => {
  dns.lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, [])
    const open = addresses.filter(({ address }) => !isPrivateAddress(address))
    const first = open[0]
    if (first === undefined) {
      return callback(Object.assign(new Error(`${hostname} has no public address`), { code: "ENOTFOUND" }), [])
    }
    if (options.all) callback(null, open)
    else callback(null, first.address, first.family)
  })
}
