/**
 * Version 2 of the API: users log in with an OpenID token of their home server and accept the terms. Then version 1 handles their
 * requests. Users can bind addresses only to themselves.
 *
 * Source: the identity service specification.
 */
import type { IncomingMessage } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { errorResponse } from "@greenroom/gateway/MatrixHttp"
import { serverNameOf, UserId } from "@greenroom/protocol/Identifiers"
import { identityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import type { NoValidSession, SessionExpired, SessionNotValidated } from "@greenroom/protocol/identity/IdentityError"
import { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { Bind } from "@greenroom/protocol/identity/ThirdPartyIdApi"
import { isJsonObject, type JsonObject, parseJsonText } from "@greenroom/protocol/Json"
import {
  BadJson,
  Forbidden,
  InvalidParam,
  isMatrixError,
  type MatrixError,
  MissingParam,
  MissingToken,
  NotJson,
  Unrecognized
} from "@greenroom/protocol/MatrixError"
import { decodeBase64, importSigningKey, signJson } from "@greenroom/room/Signing"
import { Data, Effect, Result, Schema, type Scope } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { Accounts } from "../Accounts.ts"
import { Associations } from "../Associations.ts"
import { IdentityOptions } from "../IdentityOptions.ts"
import { Requests } from "../Requests.ts"
import { makeSignedRequests } from "../SignedRequests.ts"
import { StoredInvites } from "../StoredInvites.ts"
import { ValidationSessions } from "../ValidationSessions.ts"

/** The path of a request of version 2, once its prefix is canonical. */
const prefix = "/matrix/identity/v2"
const versionsPath = "/matrix/identity/versions"

/** The endpoints that version 1 answers, and their callers: everyone, or users who have accepted the terms. */
const delegated: ReadonlyArray<readonly [method: string, path: RegExp, who: "anyone" | "users"]> = [
  ["GET", /^\/pubkey\/(?!ephemeral\/)[^/]+$/, "anyone"],
  ["GET", /^\/validate\/(?:email|msisdn)\/submitToken$/, "anyone"],
  ["POST", /^\/validate\/(?:email|msisdn)\/confirm$/, "anyone"],
  ["POST", /^\/validate\/(?:email|msisdn)\/(?:requestToken|submitToken)$/, "users"],
  ["GET", /^\/3pid\/getValidated3pid$/, "users"],
  ["POST", /^\/3pid\/unbind$/, "users"],
  ["GET", /^\/hash_details$/, "users"],
  ["POST", /^\/lookup$/, "users"],
  ["POST", /^\/store-invite$/, "users"]
]

type Request = HttpServerRequest.HttpServerRequest
type App<E> = Effect.Effect<HttpServerResponse.HttpServerResponse, E, Request | Scope.Scope>

/** The user must accept the terms first (403). */
class TermsNotSigned extends Data.TaggedError("M_TERMS_NOT_SIGNED")<{ readonly error: string }> {}

type Refusal = MatrixError | TermsNotSigned | NoValidSession | SessionExpired | SessionNotValidated

/** The error answer. Errors that only this API has get the status 400, except for the terms. */
const refusal = (error: Refusal): HttpServerResponse.HttpServerResponse =>
  isMatrixError(error)
    ? errorResponse(error)
    : HttpServerResponse.jsonUnsafe(
        { errcode: error._tag, error: error.error },
        { status: error._tag === "M_TERMS_NOT_SIGNED" ? 403 : 400 }
      )

const bearer = /^bearer +([^ ]+) *$/i
const signature = /^x-matrix /i
const decodeBind = Schema.decodeUnknownResult(Bind)

const decodeSignedUnbind = Schema.decodeUnknownResult(Schema.Struct({ mxid: UserId, threepid: ThirdPartyId }))

const json = (value: object) => HttpServerResponse.jsonUnsafe(value)

const bodyOf = (request: Request): Effect.Effect<JsonObject, MatrixError> =>
  Effect.flatMap(Effect.orDie(request.text), (text): Effect.Effect<JsonObject, MatrixError> => {
    const value = parseJsonText(text === "" ? "{}" : text)
    if (value === undefined) return Effect.fail(new NotJson({ error: "The body is not JSON" }))
    return isJsonObject(value)
      ? Effect.succeed(value)
      : Effect.fail(new BadJson({ error: "The body is not a JSON object" }))
  })

/** The path below the prefix, and the query with its question mark. */
const partsOf = (url: string) => {
  const start = url.indexOf("?")
  const path = (start === -1 ? url : url.slice(0, start)).slice(prefix.length).replace(/\/$/, "")
  return { path, query: start === -1 ? "" : url.slice(start) }
}

const tokenOf = (request: Request): string | undefined => {
  const named = bearer.exec(request.headers.authorization ?? "")?.[1]
  return named ?? new URLSearchParams(partsOf(request.url).query).get("access_token") ?? undefined
}

/** The endpoints of version 2 before those of version 1. */
export const makeVersionTwo = Effect.gen(function* () {
  const signedRequests = yield* makeSignedRequests
  const accounts = yield* Accounts
  const associations = yield* Associations
  const invites = yield* StoredInvites
  const requests = yield* Requests
  const sessions = yield* ValidationSessions
  const { serverName, terms } = yield* IdentityOptions

  const token = (request: Request): Effect.Effect<string, MissingToken> => {
    const given = tokenOf(request)
    return given === undefined
      ? Effect.fail(new MissingToken({ error: "No access token was given" }))
      : Effect.succeed(given)
  }

  const user = (request: Request) => Effect.flatMap(token(request), accounts.authenticate)

  /** The user of a request, who has accepted every policy in any of its languages. */
  const agreed = Effect.fnUntraced(function* (
    request: Request
  ): Effect.fn.Return<UserId, MatrixError | TermsNotSigned> {
    const userId = yield* user(request)
    if (terms.length === 0) return userId
    const accepted = yield* accounts.acceptedTerms(userId)
    const policies = new Set(terms.map(({ id }) => id))
    for (const { id, url } of terms) if (accepted.has(url)) policies.delete(id)
    return policies.size === 0 ? userId : yield* new TermsNotSigned({ error: "Accept the terms of this server first" })
  })

  const policies = () => {
    const byId: Record<string, Record<string, unknown>> = {}
    for (const { id, language, name, url, version } of terms) {
      byId[id] = { ...byId[id], version, [language]: { name, url } }
    }
    return { policies: byId }
  }

  const acceptTerms = Effect.fnUntraced(function* (request: Request) {
    const userId = yield* user(request)
    const { user_accepts } = yield* bodyOf(request)
    if (!Array.isArray(user_accepts)) return yield* new MissingParam({ error: "user_accepts: expected a list" })
    const offered = new Set(terms.map(({ url }) => url))
    yield* accounts.acceptTerms(
      userId,
      user_accepts.filter((url): url is string => offered.has(url as string))
    )
    return json({})
  })

  const bind = Effect.fnUntraced(function* (request: Request) {
    const userId = yield* agreed(request)
    const payload = decodeBind(yield* bodyOf(request))
    if (Result.isFailure(payload)) return yield* new InvalidParam({ error: "expected sid, client_secret and mxid" })
    if (payload.success.mxid !== userId) return yield* new Forbidden({ error: `You are ${userId}` })
    const session = yield* sessions.validated(payload.success)
    return json(yield* associations.bind(session, userId))
  })

  /** Ends a binding, authorised by the signature of the home server of the user. */
  const unbindSigned = Effect.fnUntraced(function* (request: Request) {
    yield* requests.take("tries", request)
    const content = yield* bodyOf(request)
    const payload = decodeSignedUnbind(content)
    if (Result.isFailure(payload)) return yield* new InvalidParam({ error: "expected mxid and threepid" })
    const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
    const origin = yield* signedRequests.originOf({
      method: request.method,
      uri: incoming.url ?? "",
      authorization: incoming.headersDistinct.authorization ?? [],
      content
    })
    const { mxid, threepid } = payload.success
    if (serverNameOf(mxid) !== origin)
      return yield* new Forbidden({ error: `mxid: ${mxid} is not a user of ${origin}` })
    yield* associations.unbind(threepid, mxid)
    return json({})
  })

  /** Signs for clients that cannot, with the key of an invitation, which they have from the mail. */
  const sign = Effect.fnUntraced(function* (request: Request) {
    const userId = yield* agreed(request)
    const { mxid, private_key, token } = yield* bodyOf(request)
    if (typeof mxid !== "string" || typeof token !== "string" || typeof private_key !== "string") {
      return yield* new MissingParam({ error: "expected mxid, token and private_key" })
    }
    if (mxid !== userId) return yield* new Forbidden({ error: `You are ${userId}` })
    const sender = yield* invites.senderOf(token)
    if (sender === undefined) return yield* new Unrecognized({ error: "Didn't recognize token" })
    const seed = decodeBase64(private_key)
    const key = seed === undefined ? undefined : importSigningKey(serverName, "ed25519:0", seed)
    if (key === undefined || Result.isFailure(key)) {
      return yield* new InvalidParam({ error: "private_key: expected an Ed25519 key in base64" })
    }
    return json(Result.getOrThrow(signJson({ mxid, sender, token }, key.success)))
  })

  const own: {
    readonly [endpoint: string]: (request: Request) => Effect.Effect<HttpServerResponse.HttpServerResponse, Refusal>
  } = {
    "GET ": () => Effect.succeed(json({})),
    "POST /account/register": (request) =>
      requests.take("tries", request).pipe(
        Effect.andThen(bodyOf(request)),
        Effect.flatMap(accounts.register),
        Effect.map((token) => json({ token, access_token: token }))
      ),
    "GET /account": (request) => Effect.map(agreed(request), (user_id) => json({ user_id })),
    "POST /account/logout": (request) =>
      Effect.tap(user(request), () => Effect.flatMap(token(request), accounts.logout)).pipe(Effect.as(json({}))),
    "GET /terms": () => Effect.sync(() => json(policies())),
    "POST /terms": acceptTerms,
    "POST /3pid/bind": bind,
    "POST /sign-ed25519": sign,
    "GET /pubkey/ephemeral/isvalid": (request) => {
      const key = new URLSearchParams(partsOf(request.url).query).get("public_key")
      return key === null
        ? Effect.fail(new MissingParam({ error: "public_key: missing" }))
        : Effect.map(invites.hasKey(key.replaceAll(" ", "+")), (valid) => json({ valid }))
    }
  }

  const versions = json({ versions: ["v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10"] })

  return <E>(versionOne: App<E>): App<E> =>
    HttpServerRequest.HttpServerRequest.use((request): App<E> => {
      const { url } = request
      if (url === versionsPath) return Effect.succeed(versions)
      if (!(url === prefix || url.startsWith(`${prefix}/`) || url.startsWith(`${prefix}?`))) return versionOne
      const { path, query } = partsOf(url)
      const named = `${request.method} ${path}`
      const isSigned = named === "POST /3pid/unbind" && signature.test(request.headers.authorization ?? "")
      const endpoint = isSigned ? unbindSigned : own[named]
      if (endpoint !== undefined) return Effect.catch(endpoint(request), (error) => Effect.succeed(refusal(error)))
      const known = delegated.find(([method, pattern]) => method === request.method && pattern.test(path))
      if (known === undefined) {
        return Effect.succeed(errorResponse(new Unrecognized({ error: "There is no such endpoint" })))
      }
      const moved = request.modify({ url: `${identityPrefix}${path}${query}` })
      const answered = Effect.provideService(versionOne, HttpServerRequest.HttpServerRequest, moved)
      return known[2] === "anyone"
        ? answered
        : Effect.matchEffect(agreed(request), {
            onSuccess: () => answered,
            onFailure: (error) => Effect.succeed(refusal(error))
          })
    })
})
