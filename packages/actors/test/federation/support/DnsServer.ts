/**
 * A real DNS server on this machine (RFC 1035 over UDP), for one zone that the test writes.
 */
import { createSocket } from "node:dgram"
import { Effect } from "effect"

export interface SrvAnswer {
  readonly priority: number
  readonly weight: number
  readonly port: number
  /** Empty for the root, `.`. */
  readonly target: string
}

/** The zone: SRV records by the whole name, IPv4 and IPv6 addresses by host name. May change while the server runs. */
export interface Zone {
  readonly srv: { [name: string]: ReadonlyArray<SrvAnswer> }
  readonly a?: { [name: string]: ReadonlyArray<string> }
  readonly aaaa?: { [name: string]: ReadonlyArray<string> }
  /** The names for which the server fails. */
  readonly failing?: ReadonlyArray<string>
}

export interface DnsServer {
  /** `address:port`, for the configuration. */
  readonly address: string
  /** The questions that were asked, such as `SRV _matrix._tcp.example.org`. */
  readonly questions: Array<string>
}

const types: { readonly [type: number]: string } = { 1: "A", 28: "AAAA", 33: "SRV" }

const numbers16 = (...values: ReadonlyArray<number>): Buffer => {
  const bytes = Buffer.alloc(values.length * 2)
  values.forEach((value, i) => {
    bytes.writeUInt16BE(value, i * 2)
  })
  return bytes
}

const encodeName = (name: string): Buffer =>
  Buffer.concat([
    ...name
      .split(".")
      .filter((label) => label !== "")
      .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.alloc(1)
  ])

const encodeSrv = ({ port, priority, target, weight }: SrvAnswer): Buffer =>
  Buffer.concat([numbers16(priority, weight, port), encodeName(target)])

/** Fills in the groups that `::` stands for. */
const encodeIpv6 = (address: string): Buffer => {
  const [before = "", after] = address.split("::")
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)))
  const [first, last] = [groups(before), groups(after ?? "")]
  return numbers16(...first, ...Array<number>(8 - first.length - last.length).fill(0), ...last)
}

const recordsOf = (zone: Zone, type: string | undefined, name: string): ReadonlyArray<Buffer> => {
  switch (type) {
    case "SRV":
      return (zone.srv[name] ?? []).map(encodeSrv)
    case "A":
      return (zone.a?.[name] ?? []).map((address) => Buffer.from(address.split(".").map(Number)))
    case "AAAA":
      return (zone.aaaa?.[name] ?? []).map(encodeIpv6)
    default:
      return []
  }
}

const readName = (message: Buffer): { readonly name: string; readonly end: number } => {
  const labels: Array<string> = []
  let at = 12
  while (message[at] !== 0) {
    const length = message[at]!
    labels.push(message.toString("latin1", at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join(".").toLowerCase(), end: at + 1 }
}

const success = 0x8580
const failure = 0x8582
const noSuchName = 0x8583
const internet = 1
const ttl = 60

/** The answer to a question. A name that is in no list does not exist. */
const answer = (zone: Zone, message: Buffer, questions: Array<string>): Buffer => {
  const { end, name } = readName(message)
  const type = message.readUInt16BE(end)
  questions.push(`${types[type] ?? type} ${name}`)
  const records = recordsOf(zone, types[type], name)
  const exists = [zone.srv, zone.a ?? {}, zone.aaaa ?? {}].some((all) => name in all)
  const status = zone.failing?.includes(name) === true ? failure : exists ? success : noSuchName
  const header = numbers16(message.readUInt16BE(0), status, 1, records.length, 0, 0)
  const resources = records.map((record) =>
    Buffer.concat([encodeName(name), numbers16(type, internet, 0, ttl, record.length), record])
  )
  return Buffer.concat([header, message.subarray(12, end + 4), ...resources])
}

/** Serves the zone until the scope closes. */
export const dnsServer = (zone: Zone) =>
  Effect.acquireRelease(
    Effect.callback<DnsServer & { readonly close: Effect.Effect<void> }>((resume) => {
      const questions: Array<string> = []
      const socket = createSocket("udp4")
      socket.on("message", (message, { address, port }) => socket.send(answer(zone, message, questions), port, address))
      socket.bind(0, "127.0.0.1", () =>
        resume(
          Effect.succeed({
            address: `127.0.0.1:${socket.address().port}`,
            questions,
            close: Effect.callback<void>((done) => void socket.close(() => done(Effect.void)))
          })
        )
      )
    }),
    ({ close }) => close
  )
