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
const ipv6 = ["::/127", "::ffff:0:0/96", "64:ff9b::/96", "100::/64", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8"]

const blocked = new BlockList()
for (const [family, networks] of [
  ["ipv4", ipv4],
  ["ipv6", ipv6]
] as const) {
  for (const network of networks) {
    const [address, prefix] = network.split("/")
    blocked.addSubnet(address!, Number(prefix), family)
  }
}

/** True for an IP address, with or without brackets, of a network that is not public. */
export const isPrivateAddress = (host: string): boolean => {
  const address = host.replace(/^\[|\]$/g, "")
  const family = isIP(address)
  return family !== 0 && blocked.check(address, family === 4 ? "ipv4" : "ipv6")
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
