/**
 * The key by which a network address is counted, wherever something is counted by address: an IPv4 address by itself, an
 * IPv6 address by its /64 network, which belongs to one customer as a whole.
 */

/** The two 16-bit groups at the end of an IPv4 address that is written as IPv6 in hexadecimal. */
const mapped = /^(?:::|(?:0{1,4}:){5})ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/

const toIpv4 = (text: string): string => {
  const [, high, low] = mapped.exec(text) ?? []
  if (high === undefined) return text.replace(/^::ffff:(?=\d+\.)/, "")
  const [a, b] = [Number.parseInt(high, 16), Number.parseInt(low!, 16)]
  return [a >> 8, a & 255, b >> 8, b & 255].join(".")
}

/** An address without its zone, and an IPv4 address that is written as IPv6 as such. */
export const plainAddress = (address: string): string => toIpv4(address.toLowerCase().replace(/%.*$/, ""))

/** The first four groups of an IPv6 address; any other address as it is. */
export const addressKey = (address: string): string => {
  const text = plainAddress(address)
  if (!text.includes(":")) return text
  const [head = "", tail] = text.split("::")
  const before = head === "" ? [] : head.split(":")
  const after = tail === undefined || tail === "" ? [] : tail.split(":")
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length)
  const groups = [...before, ...Array.from({ length: zeros }, () => "0"), ...after]
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`
}
