/**
 * The errors of today's client API: a request that does not fit the schemas of its endpoint is answered with the code
 * that the specification names for it. A missing key or parameter is M_MISSING_PARAM, a query or path parameter of
 * another form M_INVALID_PARAM, a body of another form M_BAD_JSON, and what is no JSON M_NOT_JSON. The text names the key.
 * A user who reaches a limit of the account gets the URI of a page, too.
 *
 * Source: "Standard error response" of the client-server specification.
 */
import { Effect, Layer, type Types } from "effect"
import type { HttpServerRequest } from "effect/http"
import { HttpApiError, HttpApiMiddleware } from "effect/http-api"
import { wholeBodyError, wireErrors } from "../api/WireError.ts"
import { describeIssue } from "../IssueDescription.ts"
import {
  BadJson,
  InvalidParam,
  isMatrixError,
  type MatrixError,
  MissingParam,
  UserLimitExceeded
} from "../MatrixError.ts"

type Failure = MatrixError | Types.unhandled

export class ClientErrors extends HttpApiMiddleware.Service<ClientErrors>()("greenroom/protocol/ClientErrors", {
  error: wireErrors
}) {
  /** @param infoUri The URI of a page on which users learn about limits. */
  static readonly layer = (infoUri: () => string): Layer.Layer<ClientErrors> =>
    Layer.succeed(ClientErrors, (endpoint) =>
      Effect.catch(endpoint, (error): Effect.Effect<never, Failure, HttpServerRequest.HttpServerRequest> => {
        if (HttpApiError.HttpApiSchemaError.is(error)) return schemaError(error)
        return isUserLimit(error)
          ? Effect.fail(new UserLimitExceeded({ error: error.error, info_uri: infoUri() }))
          : Effect.fail(error)
      })
    )
}

const isUserLimit = (error: unknown): error is UserLimitExceeded =>
  isMatrixError(error) && error._tag === "M_USER_LIMIT_EXCEEDED"

const schemaError = (
  error: HttpApiError.HttpApiSchemaError
): Effect.Effect<never, Failure, HttpServerRequest.HttpServerRequest> => {
  switch (error.kind) {
    case "Payload":
      return Effect.flatMap(payloadError(error), Effect.fail)
    case "Query":
    case "Params":
    case "Headers":
      return Effect.fail(parameterError(error))
    default:
      // A fault of the server, which answers it as such.
      return Effect.fail(error as unknown as Types.unhandled)
  }
}

const parameterError = (error: HttpApiError.HttpApiSchemaError): MatrixError => {
  const { missing, text } = describeIssue(error.cause.issue)
  return missing ? new MissingParam({ error: text }) : new InvalidParam({ error: text })
}

const payloadError = (
  error: HttpApiError.HttpApiSchemaError
): Effect.Effect<MatrixError, never, HttpServerRequest.HttpServerRequest> => {
  const { key, missing, text } = describeIssue(error.cause.issue)
  if (key === "") return wholeBodyError(text)
  return Effect.succeed(missing ? new MissingParam({ error: text }) : new BadJson({ error: text }))
}
