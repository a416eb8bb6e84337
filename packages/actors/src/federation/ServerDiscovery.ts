/**
 * The addresses of a home server: the targets to contact for a server name, in the order in which to try them.
 *
 * | server name | contacted at |
 * |---|---|
 * | in `staticServers` of the configuration | the address there |
 * | with a port | that host and port |
 * | an IPv4 or IPv6 address | port 8448 there |
 * | any other | where `https://<name>/.well-known/matrix/server` delegates to, by the same rules; else as below |
 * | a host without a delegation | the SRV records `_matrix-fed._tcp.<name>`, else `_matrix._tcp.<name>`, by priority and |
 * | | weight; without records port 8448 of the name |
 *
 * After a delegation, certificate and Host header are those of the name that is delegated to.
 *
 * Addresses that the `AddressPolicy` does not allow, and port 0, are no targets, unless the configuration names them.
 * Without `dnsServers` the system resolves host names while it connects: the connecting code applies the policy then.
 *
 * Node does not return the TTL of a record, so answers are cached for fixed times.
 *
 * Source: "SRV Records" of the draft, "Server discovery" of the server-server specification.
 */
import { Resolver, type SrvRecord } from "node:dns"
import { isIP } from "node:net"
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Context, Data, Effect, Exit, Layer, Random, Result } from "effect"
import { isAllowedHost, resolverOptions } from "./AddressPolicy.ts"
import { addressPolicyOf, FederationConfig } from "./FederationConfig.ts"
import { type Delegation, makeWellKnown } from "./internal/WellKnown.ts"
import { RemoteUnreachable } from "./RemoteError.ts"

/** The address to connect to, and the name in its certificate: empty if that is the address itself. */
export interface Target {
  readonly host: string
  readonly port: number
  readonly tlsServerName: string
  /** The Host header, where it is another than the server name: the name that was delegated to. */
  readonly hostHeader?: string
  /** The operator has written this address into the configuration: it may be private. */
  readonly isConfigured?: true
}

/** The port of a home server that says nothing else. */
const defaultPort = 8448

/** The most targets that are tried for one request. */
const maxTargets = 16

/** How long results of DNS are cached: records, their absence, and failures. */
const foundFor = "5 minutes"
const absentFor = "1 minute"
const failureFor = "10 seconds"

/** How many names are remembered. */
const capacity = 10_000

/** DNS could not be reached. Missing records are no error. */
class DnsError extends Data.TaggedError("DnsError")<{ readonly code: string }> {}

/** Host and port of a server name or an address; the host of an IPv6 address without its brackets. */
export const splitHostPort = (text: string): { readonly host: string; readonly port: number | undefined } => {
  const [, inBrackets, plain, port] = /^(?:\[([^\]]*)\]|([^:]*))(?::([0-9]{1,5}))?$/.exec(text) ?? []
  return { host: inBrackets ?? plain ?? text, port: port === undefined ? undefined : Number(port) }
}

const absent: ReadonlySet<string> = new Set(["ENOTFOUND", "ENODATA"])

const query = <A>(
  ask: (callback: (error: NodeJS.ErrnoException | null, records: ReadonlyArray<A>) => void) => void
): Effect.Effect<ReadonlyArray<A>, DnsError> =>
  Effect.callback((resume) =>
    ask((error, records) => {
      if (error === null) resume(Effect.succeed(records))
      else if (absent.has(error.code ?? "")) resume(Effect.succeed([]))
      else resume(Effect.fail(new DnsError({ code: error.code ?? error.message })))
    })
  )

const timeToLive = (exit: Exit.Exit<ReadonlyArray<unknown>, DnsError>) =>
  Exit.isFailure(exit) ? failureFor : exit.value.length > 0 ? foundFor : absentFor

const cached = <A>(lookup: (name: string) => Effect.Effect<ReadonlyArray<A>, DnsError>) =>
  MonotonicCache.makeWith(lookup, { capacity, timeToLive })

/** One of the records, each as likely as its weight says (RFC 2782); those of weight 0 hardly ever before others. */
const drawByWeight = (records: ReadonlyArray<SrvRecord>, chance: number): SrvRecord => {
  const ordered = [...records].sort((a, b) => a.weight - b.weight)
  let left = Math.floor(chance * (ordered.reduce((sum, srvRecord) => sum + srvRecord.weight, 0) + 1))
  for (const srvRecord of ordered) {
    left -= srvRecord.weight
    if (left <= 0) return srvRecord
  }
  return ordered[ordered.length - 1]!
}

/** The records in the order in which to try them. */
const orderRecords = Effect.fnUntraced(function* (records: ReadonlyArray<SrvRecord>) {
  const ordered: Array<SrvRecord> = []
  const priorities = [...new Set(records.map((record) => record.priority))].sort((a, b) => a - b)
  for (const priority of priorities) {
    const rest = records.filter((record) => record.priority === priority)
    while (rest.length > 0) {
      const next = drawByWeight(rest, yield* Random.next)
      rest.splice(rest.indexOf(next), 1)
      ordered.push(next)
    }
  }
  return ordered.slice(0, maxTargets)
})

const make = Effect.gen(function* () {
  const config = yield* FederationConfig
  const { dnsServers, staticServers = {} } = config
  const policy = addressPolicyOf(config)
  const resolver = new Resolver(resolverOptions)
  if (dnsServers !== undefined) resolver.setServers(dnsServers)

  const resolveService = (service: string, name: string) =>
    query<SrvRecord>((callback) => resolver.resolveSrv(`${service}._tcp.${name}`, callback))

  /** DNS may fail for the one service and know the other. */
  const services = yield* cached((name: string) =>
    Effect.flatMap(Effect.result(resolveService("_matrix-fed", name)), (current) =>
      Result.isSuccess(current) && current.success.length > 0
        ? Effect.succeed(current.success)
        : Effect.flatMap(resolveService("_matrix", name), (former) =>
            former.length > 0 ? Effect.succeed(former) : Effect.fromResult(current)
          )
    )
  )
  const addresses = yield* cached((name: string) =>
    Effect.flatMap(
      Effect.all(
        [
          Effect.result(query<string>((callback) => resolver.resolve4(name, callback))),
          Effect.result(query<string>((callback) => resolver.resolve6(name, callback)))
        ],
        { concurrency: 2 }
      ),
      ([four, six]) => {
        const found = [four, six].flatMap((entry) => (Result.isSuccess(entry) ? entry.success : []))
        if (found.length > 0 || Result.isSuccess(four)) return Effect.succeed(found)
        return Effect.fail(four.failure)
      }
    )
  )

  const delegations = yield* MonotonicCache.makeWith(
    makeWellKnown(config, (host) =>
      dnsServers === undefined
        ? Effect.succeed(undefined)
        : Effect.orElseSucceed(MonotonicCache.get(addresses, host), () => [])
    ),
    { capacity, timeToLive: (exit: Exit.Exit<Delegation>) => (Exit.isSuccess(exit) ? exit.value.lifetime : 0) }
  )

  /** The system finds the address of a host while it connects, unless DNS servers of our own are to be asked. */
  const located = Effect.fnUntraced(function* (target: Target) {
    if (dnsServers === undefined || isIP(target.host) !== 0) return [target]
    const found = yield* Effect.orElseSucceed(MonotonicCache.get(addresses, target.host), () => [])
    return found.map((host) => ({ ...target, host }))
  })

  const bySrv = Effect.fnUntraced(function* (name: string) {
    const records = yield* Effect.orElseSucceed(MonotonicCache.get(services, name), () => [])
    if (records.length === 0) return [{ host: name, port: defaultPort, tlsServerName: name }]
    const ordered = yield* orderRecords(records.filter((record) => record.name !== "" && record.name !== "."))
    return ordered.map((srvRecord) => ({ host: srvRecord.name, port: srvRecord.port, tlsServerName: name }))
  })

  const targets = Effect.fnUntraced(function* (serverName: ServerName): Effect.fn.Return<ReadonlyArray<Target>> {
    const { host, port } = splitHostPort(serverName)
    const tlsServerName = isIP(host) === 0 ? host : ""
    const fixed = Object.hasOwn(staticServers, serverName) ? staticServers[serverName] : undefined
    if (fixed !== undefined) {
      const address = splitHostPort(fixed)
      return [{ host: address.host, port: address.port ?? defaultPort, tlsServerName, isConfigured: true as const }]
    }
    if (port !== undefined || tlsServerName === "") return [{ host, port: port ?? defaultPort, tlsServerName }]
    const { server: delegated } = yield* MonotonicCache.get(delegations, host)
    if (delegated === undefined) return yield* bySrv(host)
    return (yield* direct(delegated)).map((target) => ({ ...target, hostHeader: delegated }))
  })

  /** The targets of a name that is not asked for a delegation: it was delegated to. */
  const direct = Effect.fnUntraced(function* (serverName: ServerName): Effect.fn.Return<ReadonlyArray<Target>> {
    const { host, port } = splitHostPort(serverName)
    const tlsServerName = isIP(host) === 0 ? host : ""
    if (port !== undefined || tlsServerName === "") return [{ host, port: port ?? defaultPort, tlsServerName }]
    return yield* bySrv(host)
  })

  const isAllowed = ({ host, isConfigured, port }: Target): boolean =>
    port > 0 && (isConfigured === true || isAllowedHost(policy, host))

  const find = Effect.fn("ServerDiscovery.find")(function* (serverName: ServerName) {
    // User IDs in events may name servers that cannot exist.
    if (!isServerName(serverName)) {
      return yield* new RemoteUnreachable({ destination: serverName, reason: "the name is not that of a host" })
    }
    const found = (yield* Effect.forEach(yield* targets(serverName), located, { concurrency: 4 })).flat()
    const allowed = found.filter(isAllowed).slice(0, maxTargets)
    if (allowed.length > 0) return allowed
    const reason =
      found.length === 0 ? "DNS has no address of the server" : "the server has no address that may be connected to"
    return yield* new RemoteUnreachable({ destination: serverName, reason })
  })

  const forget = Effect.fnUntraced(function* (serverName: ServerName) {
    const { host, port } = splitHostPort(serverName)
    const delegated =
      port === undefined && (yield* MonotonicCache.has(delegations, host))
        ? (yield* MonotonicCache.get(delegations, host)).server
        : undefined
    for (const text of delegated === undefined ? [host] : [host, splitHostPort(delegated).host]) {
      yield* MonotonicCache.invalidate(services, text)
      yield* MonotonicCache.invalidate(addresses, text)
    }
  })

  return ServerDiscovery.of({ find, forget })
})

/** The addresses of a home server, in the order in which to try them. */
export class ServerDiscovery extends Context.Service<
  ServerDiscovery,
  {
    /** The targets of a server, the first to try first: at least one, at most 16. */
    readonly find: (serverName: ServerName) => Effect.Effect<ReadonlyArray<Target>, RemoteUnreachable>
    /** Asks anew at the next `find`: after none of the targets could be reached. */
    readonly forget: (serverName: ServerName) => Effect.Effect<void>
  }
>()("greenroom/actors/ServerDiscovery") {
  static readonly layer: Layer.Layer<ServerDiscovery, never, FederationConfig> = Layer.effect(ServerDiscovery, make)
}
