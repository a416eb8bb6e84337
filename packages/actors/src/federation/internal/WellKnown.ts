/**
 * The delegation of a server name: `https://<name>/.well-known/matrix/server`, its redirects followed, within limits of time
 * and size. The answer says for how long it is good: five minutes to two days, one day if it does not say; that there is none is
 * believed for a minute at first, and for up to an hour the more often nothing is found.
 *
 * Source: "Server discovery" of the server-server specification.
 */
import type { IncomingHttpHeaders } from "node:http"
import { request as httpsRequest } from "node:https"
import { isIP } from "node:net"
import { rootCertificates } from "node:tls"
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, parseJsonText } from "@greenroom/protocol/Json"
import { doublingWait } from "@greenroom/store/Backoff"
import { setNewest } from "@greenroom/store/BoundedMap"
import { Effect } from "effect"
import { refuseUpgrade } from "../../runtime/refuseUpgrade.ts"
import { isAllowedHost, lookupAllowed } from "../AddressPolicy.ts"
import { addressPolicyOf, type FederationOptions } from "../FederationConfig.ts"

const path = "/.well-known/matrix/server"

/** How many redirects are followed. */
const maxRedirects = 5

/** The largest document that is read, in bytes, and how long one request may take, in ms. */
const maxBytes = 50 * 1024
const timeout = 5_000

/** How many addresses of a host are tried, until one answers. */
const maxAddresses = 3

const minute = 60_000
const hour = 60 * minute

/** The time for which a delegation is cached, in ms. */
const shortest = 5 * minute
const usual = 24 * hour
const longest = 48 * hour

/** The most names without a delegation whose failed lookups are counted. */
const rememberedNames = 10_000

/** A delegation, or that there is none, and for how many ms that is good. */
export interface Delegation {
  readonly server: ServerName | undefined
  readonly lifetime: number
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

const lifetimeOf = ({ "cache-control": control, date, expires }: IncomingHttpHeaders): number => {
  if (/(?:^|[,\s])no-(?:store|cache)\b/i.test(control ?? "")) return shortest
  const age = /(?:^|[,\s])max-age\s*=\s*"?([0-9]{1,10})/i.exec(control ?? "")?.[1]
  const until = Date.parse(expires ?? "") - (Number.isNaN(Date.parse(date ?? "")) ? Date.now() : Date.parse(date!))
  const said = age !== undefined ? Number(age) * 1_000 : Number.isNaN(until) ? usual : until
  return Math.min(Math.max(said, shortest), longest)
}

const serverIn = (body: string): ServerName | undefined => {
  const json = parseJsonText(body)
  const server = isJsonObject(json) ? json["m.server"] : undefined
  return typeof server === "string" && isServerName(server) ? (server as ServerName) : undefined
}

/** `addresses` resolves a host; undefined leaves that to the system. */
export const makeWellKnown = (
  config: FederationOptions,
  addresses: (host: string) => Effect.Effect<ReadonlyArray<string> | undefined>
) => {
  const { certificateAuthorities, verifyCertificates = true, wellKnownPort = 443 } = config
  const policy = addressPolicyOf(config)
  const lookup = lookupAllowed(policy)
  /** How often in a row a name had no delegation. */
  const absences = new Map<string, number>()

  const get = (url: URL, address: string | undefined): Effect.Effect<Answer | undefined> =>
    Effect.callback((resume) => {
      const fail = () => resume(Effect.succeed(undefined))
      const host = url.hostname.replace(/^\[|\]$/g, "")
      const outgoing = httpsRequest({
        agent: false,
        host: address ?? host,
        port: url.port === "" ? wellKnownPort : Number(url.port),
        servername: isIP(host) === 0 ? host : "",
        path: url.pathname + url.search,
        headers: { host: url.host, accept: "application/json" },
        lookup,
        timeout,
        rejectUnauthorized: verifyCertificates,
        ...(certificateAuthorities === undefined ? {} : { ca: [...rootCertificates, ...certificateAuthorities] })
      })
      const late = setTimeout(() => outgoing.destroy(new Error("no answer in time")), timeout)
      outgoing.once("close", () => clearTimeout(late))
      outgoing.on("error", fail)
      refuseUpgrade(outgoing)
      outgoing.once("response", (response) => {
        let body = ""
        response.setEncoding("utf8")
        response.on("data", (chunk: string) => {
          body += chunk
          if (body.length > maxBytes) outgoing.destroy(new Error("the document is too large"))
        })
        response.once("error", fail)
        response.once("end", () =>
          resume(Effect.succeed({ status: response.statusCode ?? 0, headers: response.headers, body }))
        )
      })
      outgoing.end()
      return Effect.sync(() => outgoing.destroy())
    })

  const ask = Effect.fnUntraced(function* (url: URL) {
    const host = url.hostname.replace(/^\[|\]$/g, "")
    const found = isIP(host) === 0 ? yield* addresses(host) : [host]
    if (found === undefined) return yield* get(url, undefined)
    for (const address of found.filter((address) => isAllowedHost(policy, address)).slice(0, maxAddresses)) {
      const answer = yield* get(url, address)
      if (answer !== undefined) return answer
    }
    return undefined
  })

  const follow = Effect.fnUntraced(function* (host: string) {
    // Server names may be what no URL can have as a host, such as a number beyond 32 bits.
    let url = URL.parse(`https://${host}${path}`)
    if (url === null) return undefined
    for (let redirects = 0; redirects <= maxRedirects; redirects++) {
      const answer = yield* ask(url)
      const { location } = answer?.headers ?? {}
      if (answer === undefined || answer.status < 300 || answer.status >= 400 || location === undefined) return answer
      const next: URL | null = URL.parse(location, url.href)
      if (next?.protocol !== "https:") return undefined
      url = next
    }
    return undefined
  })

  const absent = (host: string): Delegation => {
    const count = (absences.get(host) ?? 0) + 1
    setNewest(absences, host, count, rememberedNames)
    return { server: undefined, lifetime: doublingWait(count, minute, hour) }
  }

  /** The delegation of a host. */
  return Effect.fn("WellKnown.find")(function* (host: string): Effect.fn.Return<Delegation> {
    if (wellKnownPort === 0) return { server: undefined, lifetime: hour }
    const answer = yield* follow(host)
    const server = answer?.status === 200 ? serverIn(answer.body) : undefined
    if (answer === undefined || server === undefined) return absent(host)
    absences.delete(host)
    return { server, lifetime: lifetimeOf(answer.headers) }
  })
}
