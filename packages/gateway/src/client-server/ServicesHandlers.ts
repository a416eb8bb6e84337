/**
 * Credentials and lookups for third parties, as calls of `Voip` and `OpenIdTokens`.
 *
 * Source: "Voice over IP", "OpenID" and "Third-party Networks" of the client-server specification.
 */
import { OpenIdTokens } from "@greenroom/actors/account/OpenIdTokens"
import { Voip } from "@greenroom/actors/account/Voip"
import { AppServicePing } from "@greenroom/actors/app-service/AppServicePing"
import { AppServiceQueries } from "@greenroom/actors/app-service/AppServiceQueries"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect, Option } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"

/** What application services answer is passed on as it is. */
const passOn = (found: Json): HttpServerResponse.HttpServerResponse => HttpServerResponse.jsonUnsafe(found)

const noSuchNetwork = new NotFound({ error: "protocol: no application service reaches this network" })

/** The fields of a lookup: all query parameters but the access token. */
const fieldsOf = Effect.map(HttpServerRequest.ParsedSearchParams, (parameters) =>
  Object.fromEntries(
    Object.entries(parameters).flatMap(([name, value]) =>
      name === "access_token" || name === "user_id" ? [] : [[name, typeof value === "string" ? value : value[0]!]]
    )
  )
)

export const servicesHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.services", (handlers) =>
  withServices(function* () {
    const { rtcTransports = [] } = yield* HomeServerConfig
    const voip = yield* Voip
    const openId = yield* OpenIdTokens
    const queries = yield* AppServiceQueries
    const pings = yield* AppServicePing
    const findIn = (kind: "user" | "location", protocol: string) =>
      queries.reaches(protocol)
        ? Effect.flatMap(fieldsOf, (fields) => Effect.map(queries.find(kind, protocol, fields), passOn))
        : Effect.fail(noSuchNetwork)
    return handlers
      .handle("turnServer", () =>
        CurrentSession.use((session) => Effect.map(voip.turnServer(session), (credentials) => ({ ...credentials })))
      )
      .handle("rtcTransports", () => Effect.succeed({ rtc_transports: rtcTransports }))
      .handle("openIdToken", ({ params }) => CurrentSession.use((session) => openId.request(session, params.userId)))
      .handle("pingAppService", ({ params, payload }) =>
        CurrentSession.use((session) => pings.ping(session, params.appserviceId, payload?.transaction_id))
      )
      .handle("protocols", () => Effect.map(queries.protocols, passOn))
      .handle("protocol", ({ params }) =>
        Effect.flatMap(queries.protocol(params.protocol), (found) =>
          Option.isSome(found) ? Effect.succeed(passOn(found.value)) : Effect.fail(noSuchNetwork)
        )
      )
      .handle("locationsOfProtocol", ({ params }) => findIn("location", params.protocol))
      .handle("usersOfProtocol", ({ params }) => findIn("user", params.protocol))
      .handle("locations", ({ query }) => Effect.map(queries.findByName("location", { alias: query.alias }), passOn))
      .handle("users", ({ query }) => Effect.map(queries.findByName("user", { userid: query.userid }), passOn))
  })
)

/** The answer to a third party that has an OpenID token. */
const userInfoOf = ({ userInfo }: OpenIdTokens["Service"], token: string) =>
  Effect.map(userInfo(token), (found): JsonObject => ({ ...found }))

export const openIdHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.openId", (handlers) =>
  withServices(function* () {
    const tokens = yield* OpenIdTokens
    const limit = yield* RateLimit
    return handlers.handle("userinfo", ({ query, request }) =>
      Effect.andThen(limit.takeFrom("anonymous", addressOf(request)), userInfoOf(tokens, query.access_token))
    )
  })
)
