/**
 * Fetching what strangers name, by HTTP or HTTPS: from addresses that the policy allows only, whatever a name resolves to and
 * wherever a redirect leads; in bounded time, with a bounded number of redirects.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http"
import { request as httpsRequest } from "node:https"
import { Data, Effect, type Scope } from "effect"
import { type AddressPolicy, isAllowedHost, lookupAllowed } from "../../federation/AddressPolicy.ts"
import { refuseUpgrade } from "../../runtime/refuseUpgrade.ts"

/** It could not be fetched, or must not be. */
export class FetchFailed extends Data.TaggedError("FetchFailed")<{ readonly reason: string }> {
  override get message(): string {
    return this.reason
  }
}

interface FetchOptions {
  readonly policy: AddressPolicy
  readonly headers?: { readonly [name: string]: string }
  /** Schemes that are allowed (default both). */
  readonly httpsOnly?: boolean
}

/** How long the head of an answer may take, in ms. */
const headTimeout = 15_000

/** How long nothing may travel, in ms. */
const idleTimeout = 15_000

const maxRedirects = 5

const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** A URL that may be fetched. */
const check = (text: string, base: URL | undefined, options: FetchOptions): URL | FetchFailed => {
  const url = URL.parse(text, base?.href)
  const schemes = options.httpsOnly === true ? ["https:"] : ["http:", "https:"]
  if (url === null || !schemes.includes(url.protocol) || url.username !== "" || url.password !== "") {
    return new FetchFailed({ reason: "not a URL that can be fetched" })
  }
  if (!isAllowedHost(options.policy, url.hostname)) return new FetchFailed({ reason: "not a public address" })
  return url
}

const start = (url: URL, options: FetchOptions): ClientRequest =>
  (url.protocol === "https:" ? httpsRequest : httpRequest)(url, {
    agent: false,
    lookup: lookupAllowed(options.policy),
    headers: { "accept-encoding": "identity", ...options.headers, connection: "close" },
    timeout: idleTimeout,
    maxHeaderSize: 32 * 1024
  })

const ask = (url: URL, options: FetchOptions): Effect.Effect<IncomingMessage, FetchFailed> =>
  Effect.callback((resume) => {
    const request = start(url, options)
    const failed = (reason: string) => {
      request.destroy()
      resume(Effect.fail(new FetchFailed({ reason })))
    }
    const timer = setTimeout(() => failed("no answer in time"), headTimeout)
    request.on("timeout", () => request.destroy(new Error("nothing arrives")))
    request.on("error", (error) => failed(error.message))
    refuseUpgrade(request)
    request.once("response", (response) => {
      clearTimeout(timer)
      resume(Effect.succeed(response))
    })
    request.once("close", () => clearTimeout(timer))
    request.end()
    return Effect.sync(() => request.destroy())
  })

/** The answer behind a URL, where all redirects have led; it is destroyed when the scope closes. */
export const fetchUrl = (
  text: string,
  options: FetchOptions,
  base?: URL,
  left = maxRedirects
): Effect.Effect<{ readonly url: URL; readonly response: IncomingMessage }, FetchFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const url = check(text, base, options)
    if (url instanceof FetchFailed) return yield* url
    const response = yield* Effect.acquireRelease(
      ask(url, options),
      (response) => Effect.sync(() => response.destroy()),
      // A silent server would delay the interruption of the caller.
      { interruptible: true }
    )
    const { location } = response.headers
    if (!redirects.has(response.statusCode ?? 0) || location === undefined) return { url, response }
    if (left === 0) return yield* new FetchFailed({ reason: "too many redirects" })
    response.destroy()
    return yield* fetchUrl(location, options, url, left - 1)
  })
