/**
 * The rendezvous of two devices for a sign-in by QR code, as calls of `Rendezvous`.
 *
 * Source: MSC4388, and MSC4108 in its form of 2024.
 */
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { Rendezvous, type RendezvousSession } from "@greenroom/actors/account/Rendezvous"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { type MatrixError, Unrecognized } from "@greenroom/protocol/MatrixError"
import { Clock, Effect, Option } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"

type Request = HttpServerRequest.HttpServerRequest

const textPath = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"

const off = new Unrecognized({ error: "Devices sign in by QR code through the OAuth 2.0 API, which is not served" })

const concurrent = (status: 409 | 412) =>
  HttpServerResponse.jsonUnsafe(
    { errcode: "M_CONCURRENT_WRITE", error: "The other device has changed the data: read it again" },
    { status }
  )

const toTag = (sequence: number): string => `"${sequence}"`
const fromTag = (tag: string | undefined): number => Number(/^"([0-9]{1,15})"$/.exec(tag ?? "")?.[1] ?? -1)
const toSequence = (token: string): number => (/^[0-9]{1,15}$/.test(token) ? Number(token) : -1)

const headersOf = ({ expiresAt, sequence }: RendezvousSession) => ({
  etag: toTag(sequence),
  expires: new Date(expiresAt).toUTCString(),
  "cache-control": "no-store",
  pragma: "no-cache",
  "access-control-expose-headers": "ETag"
})

export const rendezvousHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.rendezvous", (handlers) =>
  withServices(function* () {
    const { mode } = yield* OAuthServer
    const sessions = yield* Rendezvous
    const limit = yield* RateLimit
    const publicUrl = yield* PublicUrl

    const allowed = (request: Request): Effect.Effect<void, MatrixError> =>
      mode === "off" ? Effect.fail(off) : limit.takeFrom("anonymous", addressOf(request))

    const mayCreate = (request: Request): Effect.Effect<void, MatrixError> =>
      mode === "off" ? Effect.fail(off) : limit.takeFrom("logins", addressOf(request))

    const left = (expiresAt: number) => Effect.map(Clock.currentTimeMillis, (now) => Math.max(0, expiresAt - now))

    const textOf = (request: Request) => Effect.orDie(request.text)

    return handlers
      .handle("available", ({ request }) => Effect.as(allowed(request), { create_available: true }))
      .handle("create", ({ payload, request }) =>
        Effect.gen(function* () {
          yield* mayCreate(request)
          const { expiresAt, id, sequence } = yield* sessions.create(payload.data)
          return { id, sequence_token: String(sequence), expires_in_ms: yield* left(expiresAt) }
        })
      )
      .handle("get", ({ params, request }) =>
        Effect.gen(function* () {
          yield* allowed(request)
          const { data, expiresAt, sequence } = yield* sessions.find(params.id)
          return { data, sequence_token: String(sequence), expires_in_ms: yield* left(expiresAt) }
        })
      )
      .handle("put", ({ params, payload, request }) =>
        Effect.gen(function* () {
          yield* allowed(request)
          const next = yield* sessions.replace(params.id, payload.data, toSequence(payload.sequence_token))
          return Option.isSome(next) ? { sequence_token: String(next.value) } : concurrent(409)
        })
      )
      .handle("remove", ({ params, request }) =>
        Effect.as(Effect.andThen(allowed(request), sessions.remove(params.id)), done)
      )
      .handle("createText", ({ request }) =>
        Effect.gen(function* () {
          yield* mayCreate(request)
          const created = yield* sessions.create(yield* textOf(request))
          const url = `${publicUrl.get()}${textPath}/${created.id}`
          return HttpServerResponse.jsonUnsafe({ url }, { status: 201, headers: headersOf(created) })
        })
      )
      .handle("getText", ({ params, request }) =>
        Effect.gen(function* () {
          yield* allowed(request)
          const session = yield* sessions.find(params.id)
          const headers = headersOf(session)
          return fromTag(request.headers["if-none-match"]) === session.sequence
            ? HttpServerResponse.empty({ status: 304, headers })
            : HttpServerResponse.text(session.data, { headers, contentType: "text/plain" })
        })
      )
      .handle("putText", ({ params, request }) =>
        Effect.gen(function* () {
          yield* allowed(request)
          const tag = fromTag(request.headers["if-match"])
          const next = yield* sessions.replace(params.id, yield* textOf(request), tag)
          if (Option.isNone(next)) return concurrent(412)
          return HttpServerResponse.empty({ status: 202, headers: headersOf(yield* sessions.find(params.id)) })
        })
      )
      .handle("removeText", ({ params, request }) =>
        Effect.as(
          Effect.andThen(allowed(request), sessions.remove(params.id)),
          HttpServerResponse.empty({ status: 204 })
        )
      )
  })
)
