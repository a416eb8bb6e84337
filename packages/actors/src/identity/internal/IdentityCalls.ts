/**
 * Requests to identity servers, and what their refusals mean to the user. Servers that the operator trusts are asked at any
 * address, others only at those that the address policy allows.
 *
 * Source: "Identity" of the draft, and the identity service specification.
 */
import { rootCertificates } from "node:tls"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { laterIdentityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import {
  NoValidSession,
  SessionExpired,
  SessionNotValidated,
  TokenIncorrect
} from "@greenroom/protocol/identity/IdentityError"
import { isJsonObject, type JsonObject, parseJsonText } from "@greenroom/protocol/Json"
import { BadRequest, Forbidden, LimitExceeded, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { encodeOrThrow } from "@greenroom/room/CanonicalJson"
import type { SigningKey } from "@greenroom/room/Signing"
import { Effect } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { lookupAllowed } from "../../federation/AddressPolicy.ts"
import { addressPolicyOf, FederationConfig, type FederationOptions } from "../../federation/FederationConfig.ts"
import { authorizationOf } from "../../federation/RequestSigning.ts"
import { answerText } from "../../runtime/AnswerText.ts"
import { Departure } from "../../runtime/Departure.ts"
import type { IdentityFailure, IdentityServer } from "../IdentityServer.ts"

/** How long an identity server may take to answer. It may have a mail to hand over first. */
const requestTimeout = "30 seconds"

/** The largest answer that is read, in bytes. */
const maxAnswer = 256 * 1024

/** An answer with a JSON object. */
export interface Answer {
  readonly status: number
  readonly body: JsonObject
}

/** A request below the prefix of its version. */
export interface Call {
  readonly path: string
  readonly query?: { readonly [key: string]: string }
  /** Sent by POST, if there is one. */
  readonly content?: JsonObject
  /** An access token of the user: the call is one of version 2, which wants it. */
  readonly accessToken?: string | undefined
  /** A call of version 2 that needs no token. */
  readonly isSecond?: boolean
  /** The call is one of version 2 and signed by this home server. */
  readonly signedBy?: SigningKey
}

/** The prefix of version 2, whose requests are made in the name of a user. */
const secondPrefix = "/_matrix/identity/v2"

const sessionErrors = {
  M_NO_VALID_SESSION: NoValidSession,
  M_SESSION_EXPIRED: SessionExpired,
  M_SESSION_NOT_VALIDATED: SessionNotValidated,
  M_TOKEN_INCORRECT: TokenIncorrect
} as const

const isSessionError = (errcode: unknown): errcode is keyof typeof sessionErrors =>
  typeof errcode === "string" && Object.hasOwn(sessionErrors, errcode)

export const hostOf = (server: string): string => new URL(server).host

export const failed = (server: IdentityServer, what: string) =>
  new BadRequest({ error: `The identity server ${hostOf(server)} ${what}` })

const reasonOf = ({ error }: JsonObject): string =>
  typeof error === "string" ? error.slice(0, 500).toWellFormed() : "no reason given"

/** The error of an identity server for users that it does not know, or that did not accept its terms. */
const forbidden: ReadonlySet<unknown> = new Set([
  "M_UNAUTHORIZED",
  "M_UNKNOWN_TOKEN",
  "M_MISSING_TOKEN",
  "M_TERMS_NOT_SIGNED"
])

/** The longest wait before another request that an identity server can ask of users, in ms. */
const longestWait = 3_600_000

/** The error text for the user. */
export const refusal = (server: IdentityServer, { body }: Answer): MatrixError => {
  const { errcode, retry_after_ms } = body
  const error = reasonOf(body)
  if (errcode === "M_FORBIDDEN" || forbidden.has(errcode)) return new Forbidden({ error })
  if (errcode === "M_NOT_FOUND") return new NotFound({ error })
  if (errcode === "M_LIMIT_EXCEEDED") {
    const wait = typeof retry_after_ms === "number" && retry_after_ms > 0 ? Math.ceil(retry_after_ms) : 60_000
    return new LimitExceeded({ error, retry_after_ms: Math.min(wait, longestWait) })
  }
  return failed(server, `refused: ${error}`)
}

const sessionRefusal = (server: IdentityServer, answer: Answer): IdentityFailure => {
  const { errcode } = answer.body
  return isSessionError(errcode)
    ? new sessionErrors[errcode]({ error: reasonOf(answer.body) })
    : refusal(server, answer)
}

/** The Authorization header of a request that this home server signs. */
const authorizationFor = (server: IdentityServer, path: string, content: JsonObject, key: SigningKey) =>
  authorizationOf(
    {
      method: "POST",
      uri: `${secondPrefix}${path}`,
      origin: key.serverName,
      destination: hostOf(server) as ServerName
    },
    Buffer.from(encodeOrThrow(content), "utf8"),
    key
  )

/** The client for servers that users name: it connects only to addresses that the policy allows. */
const makeStrangersClient = (config: FederationOptions) => {
  const { certificateAuthorities: authorities, verifyCertificates = true } = config
  const agent = NodeHttpClient.makeAgent({
    lookup: lookupAllowed(addressPolicyOf(config)),
    rejectUnauthorized: verifyCertificates,
    ...(authorities === undefined ? {} : { ca: [...rootCertificates, ...authorities] })
  })
  return Effect.provideServiceEffect(NodeHttpClient.makeNodeHttp, NodeHttpClient.HttpAgent, agent)
}

/** `identityServers`: the URLs of those that the operator trusts. */
export const makeIdentityCalls = Effect.fnUntraced(function* (identityServers: ReadonlyArray<string>) {
  const trustedClient = yield* HttpClient.HttpClient
  const { whileStaying } = yield* Departure
  const client = yield* makeStrangersClient(yield* FederationConfig)

  const exchange = Effect.fnUntraced(function* (server: IdentityServer, call: Call) {
    const {
      accessToken,
      content,
      isSecond = accessToken !== undefined || call.signedBy !== undefined,
      path,
      query = {}
    } = call
    const url = `${server}${isSecond ? secondPrefix : laterIdentityPrefix}${path}`
    const anonymous =
      content === undefined
        ? HttpClientRequest.get(url, { urlParams: query })
        : HttpClientRequest.post(url).pipe(HttpClientRequest.bodyJsonUnsafe(content))
    const authorization =
      call.signedBy === undefined ? undefined : yield* authorizationFor(server, path, content ?? {}, call.signedBy)
    const signed =
      authorization === undefined ? anonymous : HttpClientRequest.setHeader(anonymous, "authorization", authorization)
    const request = accessToken === undefined ? signed : HttpClientRequest.bearerToken(signed, accessToken)
    const { status, text } = yield* (identityServers.includes(server) ? trustedClient : client).execute(request).pipe(
      Effect.flatMap((response) =>
        Effect.map(answerText(response, maxAnswer), (text) => ({ status: response.status, text }))
      ),
      Effect.scoped,
      Effect.timeout(requestTimeout),
      whileStaying,
      // Queries have secrets, which are not for traces.
      Effect.provideService(HttpClient.TracerDisabledWhen, () => true),
      Effect.mapError(() => failed(server, "cannot be asked now"))
    )
    const body = parseJsonText(text)
    if (!isJsonObject(body)) return yield* failed(server, `cannot be asked now: status ${status}`)
    return { status, body }
  })

  const askBy = <E>(refuse: (server: IdentityServer, answer: Answer) => E) =>
    Effect.fnUntraced(function* (server: IdentityServer, call: Call) {
      const answer: Answer = yield* exchange(server, call)
      return answer.status === 200 ? answer.body : yield* Effect.fail(refuse(server, answer))
    })

  const ask = askBy(refusal)

  /** About a session of the server. */
  const askOfSession = askBy(sessionRefusal)

  const malformed = (server: IdentityServer) => failed(server, "gave an answer that makes no sense")

  return { ask, askOfSession, exchange, malformed }
})
