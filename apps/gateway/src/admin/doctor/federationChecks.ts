/**
 * Checks that other servers can reach this one, and that this one can reach others: DNS, and a request to each.
 */

import { Resolver } from "node:dns/promises"
import * as net from "node:net"
import { FederationConfig, type FederationOptions } from "@greenroom/actors/federation/FederationConfig"
import { FederationTransport } from "@greenroom/actors/federation/FederationTransport"
import { ServerDiscovery, splitHostPort } from "@greenroom/actors/federation/ServerDiscovery"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Result } from "effect"
import { checking, compareClocks, type Finding, failure, ok, reasonOf, warning } from "./Finding.ts"

/** How long a server may take to answer, in ms. */
const timeout = 10_000

/** The errors for a name that does not exist, which show that DNS works. */
const absent = new Set(["ENOTFOUND", "ENODATA"])

const lookUp = async (resolver: Resolver, host: string): Promise<number> => {
  const families = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)])
  const failed = families.find((family) => family.status === "rejected" && !absent.has(family.reason.code))
  const found = families.reduce((count, family) => count + (family.status === "fulfilled" ? family.value.length : 0), 0)
  if (found === 0 && failed !== undefined) throw (failed as PromiseRejectedResult).reason
  return found
}

/** Checks that DNS answers, and has an address of this server. */
const checkDns = (serverName: ServerName, { dnsServers, staticServers }: FederationOptions) =>
  checking("dns", async () => {
    const { host } = splitHostPort(serverName)
    if (net.isIP(host) !== 0 || host === "localhost" || staticServers?.[serverName] !== undefined) {
      return [ok("dns", `${serverName} needs none`)]
    }
    const resolver = new Resolver({ timeout: 2_000, tries: 2 })
    if (dnsServers !== undefined) resolver.setServers([...dnsServers])
    const asked = `${resolver.getServers().join(", ") || "no server"}`
    try {
      return (await lookUp(resolver, host)) > 0
        ? [ok("dns", `${host} has an address`)]
        : [
            warning(
              "dns",
              `${host} has no address`,
              "Make an A or AAAA record for it, or an SRV record _matrix-fed._tcp that leads elsewhere."
            )
          ]
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      return [
        failure(
          "dns",
          `does not answer (${asked}: ${code})`,
          "Name DNS servers that answer, in /etc/resolv.conf or as federation.dns_servers, and let UDP and TCP port 53 out."
        )
      ]
    }
  })

const keysUri = "/_matrix/key/v2/server"

/** Requests the keys of a server, as any other server would. */
const ask = (destination: ServerName) =>
  Effect.scoped(
    Effect.gen(function* () {
      const transport = yield* FederationTransport
      const begun = performance.now()
      const { headers, statusCode } = yield* transport.open({ destination, method: "GET", uri: keysUri, timeout })
      return { status: statusCode ?? 0, date: Date.parse(headers.date ?? ""), took: performance.now() - begun }
    })
  )

/** The remedy for a failed request, by the message of TLS or the system. */
const remedyOf = (reason: string, isOwn: boolean): string =>
  /certificate has expired/i.test(reason)
    ? "Its certificate has expired: renew it."
    : /certificate|self.signed|altname/i.test(reason)
      ? `${isOwn ? "Give a certificate that others trust, for this name" : "Its certificate is not trusted: its operator has to mend that, or name its authority in federation.certificate_authorities"}.`
      : /ECONNREFUSED|timed? ?out|no answer|EHOSTUNREACH/i.test(reason)
        ? `Open the port of the federation API in every firewall${isOwn ? ", and start the server" : ""}; look whether DNS leads to the right address.`
        : "Look at DNS, /.well-known/matrix/server and the port."

const checkServer = (destination: ServerName, isOwn: boolean) =>
  Effect.map(Effect.result(ask(destination)), (result): ReadonlyArray<Finding> => {
    const what = isOwn ? `${destination}, as others reach it,` : destination
    if (Result.isFailure(result)) {
      const reason = reasonOf(result.failure)
      return [failure("federation", `${what} does not answer: ${reason}`, remedyOf(reason, isOwn))]
    }
    const { date, status, took } = result.success
    if (status !== 200)
      return [
        failure(
          "federation",
          `${what} answers ${status} at ${keysUri}`,
          "Look where its name leads: something else answers there."
        )
      ]
    return [
      ok("federation", `${what} answers`),
      // The header has no fractions of a second.
      ...(isOwn || Number.isNaN(date) ? [] : [compareClocks(destination, date + 500, took + 1_000)])
    ]
  })

/** Checks both directions: this server by its name, and the peers that the operator names. */
export const checkFederation = (
  serverName: ServerName,
  peers: ReadonlyArray<ServerName>,
  options: FederationOptions
): Effect.Effect<ReadonlyArray<Finding>> => {
  if (options.enabled === false) {
    return Effect.succeed([ok("federation", "is off (federation.enabled)")])
  }
  return Effect.all(
    [
      checkDns(serverName, options),
      ...(serverName === "localhost" ? [] : [checkServer(serverName, true)]),
      ...peers.map((peer) => checkServer(peer, false))
    ],
    { concurrency: 8 }
  ).pipe(
    Effect.map((findings) => findings.flat()),
    Effect.provide(
      FederationTransport.layer.pipe(
        Layer.provideMerge(ServerDiscovery.layer),
        Layer.provideMerge(Layer.succeed(FederationConfig, options))
      )
    )
  )
}
