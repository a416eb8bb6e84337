/**
 * Bounds the connections of one address, so that a stranger cannot take all connections of a server. Addresses that are not public, such
 * as those of this machine and its network, and trusted proxies have no bound, since the connections of many clients come from them.
 */
import type { Server, Socket } from "node:net"
import { isAllowedHost } from "@greenroom/actors/federation/AddressPolicy"
import { addressKey, plainAddress } from "@greenroom/actors/runtime/AddressKey"

/** One address may have one of so many connections. */
const share = 8

/** Open connections by address. */
export class ConnectionShares {
  private readonly counts = new Map<string, number>()
  private readonly limit: number
  private readonly isTrusted: (address: string) => boolean

  /** `limit` is how many connections an address may have. */
  constructor(limit: number, isTrusted: (address: string) => boolean) {
    this.limit = limit
    this.isTrusted = isTrusted
  }

  /** Counts a connection. Undefined if its address has too many, else what counts it off. */
  enter(address: string): (() => void) | undefined {
    if (!isAllowedHost("public", plainAddress(address)) || this.isTrusted(address)) return () => {}
    const key = addressKey(address)
    const count = this.counts.get(key) ?? 0
    if (count >= this.limit) return undefined
    this.counts.set(key, count + 1)
    return () => this.leave(key)
  }

  private leave(key: string): void {
    const count = this.counts.get(key)! - 1
    if (count === 0) this.counts.delete(key)
    else this.counts.set(key, count)
  }
}

/** Ends the connections of an address beyond an eighth of the `maxConnections` of the server. */
export const shareConnections = (server: Server, isTrusted: (address: string) => boolean = () => false): void => {
  const shares = new ConnectionShares(Math.ceil(server.maxConnections / share), isTrusted)
  server.prependListener("connection", (socket: Socket) => {
    const leave = shares.enter(socket.remoteAddress ?? "")
    if (leave === undefined) socket.destroy()
    else socket.once("close", leave)
  })
}
