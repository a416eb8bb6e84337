/**
 * Requests to push gateways. Users name their URLs, so only the addresses that `federation/AddressPolicy` allows are
 * connected to. Redirects are not followed.
 *
 * Source: the push gateway specification.
 */
import { Agent as HttpAgent, request as httpRequest, type RequestOptions } from "node:http"
import { Agent as HttpsAgent, request as httpsRequest } from "node:https"
import { rootCertificates } from "node:tls"
import { isJsonObject, type JsonObject, parseJsonText } from "@greenroom/protocol/Json"
import { Context, Data, Effect, Layer } from "effect"
import { type AddressPolicy, isAllowedHost, lookupAllowed } from "../../federation/AddressPolicy.ts"
import { addressPolicyOf, FederationConfig } from "../../federation/FederationConfig.ts"
import { ByteCollector } from "../../runtime/ByteCollector.ts"
import { refuseUpgrade } from "../../runtime/refuseUpgrade.ts"

/** The gateway could not be reached, or did not take the notification. */
export class PushFailed extends Data.TaggedError("PushFailed")<{ readonly reason: string }> {
  override get message(): string {
    return this.reason
  }
}

/** How long a request may take, in ms, and how large its answer may be, in bytes. */
const requestTimeout = 15_000
const maxAnswer = 65_536

const pushPath = "/_matrix/push/v1/notify"

/** The fault of a push gateway's URL. HTTP without TLS is for tests on loopback addresses. */
export const checkPushUrl = (text: unknown, policy: AddressPolicy): string | undefined => {
  const url = typeof text === "string" && text.length <= 2_048 ? URL.parse(text) : null
  if (url === null) return "must be a URL"
  if (url.protocol !== "https:" && !(url.protocol === "http:" && policy !== "public")) return "must be an HTTPS URL"
  if (url.username !== "" || url.password !== "") return "must have no credentials"
  if (url.pathname !== pushPath) return `must have the path ${pushPath}`
  return isAllowedHost(policy, url.hostname) ? undefined : "must have a public address"
}

const rejectedOf = (text: string): ReadonlyArray<string> => {
  const answer = parseJsonText(text)
  const rejected = isJsonObject(answer) ? answer.rejected : undefined
  return Array.isArray(rejected) ? rejected.filter((key): key is string => typeof key === "string") : []
}

const make = Effect.gen(function* () {
  const config = yield* FederationConfig
  const policy = addressPolicyOf(config)
  const options = { keepAlive: true, maxSockets: 16, maxTotalSockets: 256, maxFreeSockets: 4, timeout: 55_000 }
  const { certificateAuthorities: authorities } = config
  const agents = yield* Effect.acquireRelease(
    Effect.sync(() => ({
      http: new HttpAgent(options),
      https: new HttpsAgent({
        ...options,
        rejectUnauthorized: config.verifyCertificates ?? true,
        ...(authorities === undefined ? {} : { ca: [...rootCertificates, ...authorities] })
      })
    })),
    ({ http, https }) =>
      Effect.sync(() => {
        http.destroy()
        https.destroy()
      })
  )
  const lookup = lookupAllowed(policy)

  const post = (url: URL, body: string) =>
    Effect.callback<ReadonlyArray<string>, PushFailed>((resume) => {
      const fail = (reason: string) => resume(Effect.fail(new PushFailed({ reason })))
      const isSecure = url.protocol === "https:"
      const settings: RequestOptions = {
        method: "POST",
        agent: isSecure ? agents.https : agents.http,
        lookup,
        headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) }
      }
      const request = (isSecure ? httpsRequest : httpRequest)(url, settings, (response) => {
        const bytes = new ByteCollector()
        response.on("data", (chunk: Buffer) => {
          bytes.add(chunk)
          if (bytes.length > maxAnswer) request.destroy(new Error("the answer is too large"))
        })
        response.once("end", () => {
          const { statusCode = 0 } = response
          if (statusCode < 200 || statusCode > 299) fail(`answered with ${statusCode}`)
          else resume(Effect.succeed(rejectedOf(bytes.take().toString())))
        })
        response.once("error", ({ message }) => fail(message))
      })
      refuseUpgrade(request)
      request.on("error", ({ message }) => fail(message))
      request.end(body)
      return Effect.sync(() => request.destroy())
    }).pipe(
      Effect.timeoutOrElse({
        duration: requestTimeout,
        orElse: () => Effect.fail(new PushFailed({ reason: "did not answer in time" }))
      })
    )

  return PushGateway.of({
    policy,
    notify: (text, notification) => {
      const wrong = checkPushUrl(text, policy)
      if (wrong !== undefined) return Effect.fail(new PushFailed({ reason: `the URL ${wrong}` }))
      return post(new URL(text), JSON.stringify({ notification }))
    }
  })
})

/** HTTP requests to push gateways. */
export class PushGateway extends Context.Service<
  PushGateway,
  {
    /** The addresses to which requests may go. */
    readonly policy: AddressPolicy
    /** Sends a notification, and gives the push keys that the gateway rejects for good. */
    readonly notify: (url: string, notification: JsonObject) => Effect.Effect<ReadonlyArray<string>, PushFailed>
  }
>()("greenroom/actors/PushGateway") {
  static readonly layer = Layer.effect(PushGateway, make)
}
