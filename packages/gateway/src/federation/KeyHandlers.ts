/**
 * The key endpoints as calls of `KeyNotary`.
 *
 * Source: "Security" of the draft, "Retrieving server keys" of the server-server specification.
 */
import { KeyNotary } from "@greenroom/actors/federation/KeyNotary"
import { parseJson } from "@greenroom/actors/federation/SlicedJson"
import { FederationApi } from "@greenroom/protocol/federation/FederationApi"
import { KeyQuery } from "@greenroom/protocol/federation/KeyApi"
import type { ServerKeys } from "@greenroom/protocol/federation/ServerKeys"
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import { describeIssue } from "@greenroom/protocol/IssueDescription"
import { BadJson, NotJson } from "@greenroom/protocol/MatrixError"
import { Clock, Effect, Result, Schema } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { maxPduBodyBytes, readBody } from "./OriginAuthentication.ts"

const decodeQuery = Schema.decodeUnknownResult(KeyQuery)

const readQuery = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
  const body = yield* readBody(request, maxPduBodyBytes)
  const json = yield* Effect.mapError(parseJson(body), ({ reason }) => new NotJson({ error: reason }))
  const decoded = decodeQuery(json)
  if (Result.isFailure(decoded)) return yield* new BadJson({ error: describeIssue(decoded.failure.issue).text })
  const now = yield* Clock.currentTimeMillis
  return new Map(
    Object.entries(decoded.success.server_keys).flatMap(([server, keys]) => {
      if (!isServerName(server)) return []
      const times = Object.values(keys).map(({ minimum_valid_until_ts = now }) => minimum_valid_until_ts)
      const validUntil = times.length === 0 ? now : Math.max(...times)
      return [[server as ServerName, { keyIds: new Set(Object.keys(keys)), validUntil }] as const]
    })
  )
})

export const keyHandlers = HttpApiBuilder.group(FederationApi, "keys", (handlers) =>
  Effect.gen(function* () {
    const notary = yield* KeyNotary
    const limit = yield* RateLimit
    const own = Effect.map(notary.own, (object) => object as unknown as ServerKeys)

    const countRequest = HttpServerRequest.HttpServerRequest.use((request) =>
      Effect.as(limit.takeFrom("anonymous", addressOf(request)), request)
    )

    const query = Effect.fnUntraced(function* (serverName: ServerName, keyIds: ReadonlySet<string>, until?: string) {
      yield* countRequest
      const validUntil = Number(until ?? (yield* Clock.currentTimeMillis))
      return { server_keys: yield* notary.query(new Map([[serverName, { keyIds, validUntil }]])) }
    })

    return handlers
      .handle("keys", () => own)
      .handle("serverKeys", () => own)
      .handle("serverKey", () => own)
      .handle("queryServer", ({ params: { serverName }, query: { minimum_valid_until_ts } }) =>
        query(serverName, new Set(), minimum_valid_until_ts)
      )
      .handle("queryServerKey", ({ params: { serverName, keyId }, query: { minimum_valid_until_ts } }) =>
        query(serverName, new Set([keyId]), minimum_valid_until_ts)
      )
      .handleRaw("queryServers", () =>
        Effect.gen(function* () {
          const asked = yield* readQuery(yield* countRequest)
          return HttpServerResponse.jsonUnsafe({ server_keys: yield* notary.query(asked) })
        })
      )
  })
)
