/**
 * What all pages of the OAuth 2.0 API have in common: the rate limit, the refusal of forms of other sites, and the page for an error.
 */
import type { OAuthError } from "@greenroom/actors/account/oauth/OAuthError"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerRequest, type HttpServerResponse } from "effect/http"
import { messagePage } from "../pages/Page.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { isForeign } from "./OAuthForms.ts"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

export const stopped = (text: string, status = 400): Response =>
  messagePage({ title: "This request cannot continue", text, status })

const foreign = stopped("The form came from another site. Open the page again.", 403)

export const unknownAction = stopped("The form names no known action.")

/** Makes the handler of a page. */
export const makePage = Effect.gen(function* () {
  const limit = yield* RateLimit
  const publicUrl = yield* PublicUrl

  return (answer: (request: Request) => Effect.Effect<Response, OAuthError | LimitExceeded>) =>
    HttpServerRequest.HttpServerRequest.use((request) =>
      limit.takeFrom("anonymous", addressOf(request)).pipe(
        Effect.andThen(
          request.method === "POST" && isForeign(request, publicUrl.get()) ? Effect.succeed(foreign) : answer(request)
        ),
        Effect.catchTag("OAuthError", ({ description }) => Effect.succeed(stopped(description))),
        Effect.catchTag("M_LIMIT_EXCEEDED", ({ error }) => Effect.succeed(stopped(error, 429)))
      )
    )
})

export type MakePage = Effect.Success<typeof makePage>
