/**
 * Callbacks of identity servers: an invited address was bound. Their keys are not known beforehand, so the request is not
 * signed; every invitation in it is.
 *
 * Source: "Identity" of the draft, "Third-party invites" of the server-server specification.
 */
import { parseJson } from "@greenroom/actors/federation/SlicedJson"
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import { done } from "@greenroom/protocol/api/Body"
import { FederationApi } from "@greenroom/protocol/federation/FederationApi"
import { describeIssue } from "@greenroom/protocol/IssueDescription"
import { OnBind } from "@greenroom/protocol/identity/OnBind"
import type { Json } from "@greenroom/protocol/Json"
import { BadJson, NotJson } from "@greenroom/protocol/MatrixError"
import { Effect, Result, Schema } from "effect"
import type { HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { readBody } from "./OriginAuthentication.ts"

/** The longest body, in bytes: room for the most invitations of one address. */
const maxBodyBytes = 256 * 1024

const decodeOnBind = Schema.decodeUnknownResult(OnBind)

const parse = (bytes: Uint8Array): Effect.Effect<Json, NotJson> =>
  Effect.mapError(parseJson(bytes), ({ reason }) => new NotJson({ error: `The body is not JSON: ${reason}` }))

export const identityHandlers = HttpApiBuilder.group(FederationApi, "identity", (handlers) =>
  Effect.gen(function* () {
    const invites = yield* ThirdPartyInvites
    const limit = yield* RateLimit
    const onBind = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
      yield* limit.takeFrom("anonymous", addressOf(request))
      const bound = decodeOnBind(yield* Effect.flatMap(readBody(request, maxBodyBytes), parse))
      if (Result.isFailure(bound)) return yield* new BadJson({ error: describeIssue(bound.failure.issue).text })
      yield* invites.onBind(bound.success)
      return done
    })
    return handlers
      .handleRaw("onBind", ({ request }) => onBind(request))
      .handleRaw("onBindToday", ({ request }) => onBind(request))
  })
)
