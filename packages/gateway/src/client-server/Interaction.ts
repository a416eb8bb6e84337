/**
 * The answer to an operation that needs user-interactive authentication: 401 with the session and the flows.
 *
 * Source: "User-interactive API in the REST API" of the client-server specification.
 */
import type { InteractionRequired } from "@greenroom/actors/account/InteractiveAuth"
import { toErrorBody } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"

const toResponse = ({ completed, flows, params, reason, session }: InteractionRequired) =>
  HttpServerResponse.jsonUnsafe(
    {
      session,
      flows: flows.map((stages) => ({ stages })),
      params,
      completed,
      ...(reason === undefined ? {} : toErrorBody(reason))
    },
    { status: 401 }
  )

/** Answers an operation that must go on with another stage. Wrong attempts are not the error of the operation. */
export const answerInteraction = <A, E, R>(
  effect: Effect.Effect<A, E | InteractionRequired, R>
): Effect.Effect<A | HttpServerResponse.HttpServerResponse, Exclude<E, InteractionRequired>, R> =>
  Effect.catchTag(effect as never, "InteractionRequired" as never, (required: InteractionRequired) =>
    Effect.succeed(toResponse(required))
  ) as never
