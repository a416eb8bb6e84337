/**
 * The errors of the protocol as they travel, `{"errcode": "M_...", "error": "..."}`, and the middleware by which a
 * request that does not fit the schemas of its endpoint is answered with one of them.
 *
 * Source: "API Standards" of the specification.
 */
import { Effect, Option, Schema } from "effect"
import { HttpServerRequest } from "effect/http"
import { type HttpApiError, HttpApiMiddleware } from "effect/http-api"
import { describeIssue } from "../IssueDescription.ts"
import { isJsonObject } from "../Json.ts"
import * as Errors from "../MatrixError.ts"
import { isPaginationKey } from "../Pagination.ts"

const errcode = { _tag: "errcode" } as const

/** Every error in its wire form. A handler may fail with any of them. */
export const wireErrors = [
  Errors.BadJson.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "A key is missing or of the wrong type"
  }),
  Errors.NotJson.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 400, description: "Not JSON" }),
  Errors.BadPagination.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "Malformed pagination"
  }),
  Errors.UserInUse.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 400, description: "User ID taken" }),
  Errors.RoomInUse.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 400, description: "Room alias taken" }),
  Errors.InvalidUsername.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "Not allowed in a user ID"
  }),
  Errors.LoginEmailUrlNotYet.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 400,
    description: "Link not visited yet"
  }),
  Errors.BadRequest.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 400, description: "Anything else" }),
  Errors.UnknownToken.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 401,
    description: "Access token unknown or expired"
  }),
  Errors.MissingToken.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 401, description: "No access token" }),
  Errors.Forbidden.pipe(Schema.encodeKeys(errcode)).annotate({ httpApiStatus: 403, description: "Not allowed" }),
  Errors.NotFound.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 404,
    description: "No such thing, or not for you to see"
  }),
  Errors.Unrecognized.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 404,
    description: "No such endpoint"
  }),
  Errors.TooLarge.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 413,
    description: "Over a limit of size"
  }),
  Errors.LimitExceeded.pipe(Schema.encodeKeys(errcode)).annotate({
    httpApiStatus: 429,
    description: "Too many requests"
  })
] as const

/** Declares the errors for every endpoint, and turns what the schemas refuse into M_BAD_JSON and its like. */
export class WireErrors extends HttpApiMiddleware.Service<WireErrors>()("greenroom/protocol/WireErrors", {
  error: wireErrors
}) {
  static readonly layer = HttpApiMiddleware.layerSchemaErrorTransform(WireErrors, (error) => {
    switch (error.kind) {
      case "Payload":
        return Effect.flatMap(payloadError(error), Effect.fail)
      case "Query":
        return Effect.fail(queryError(error))
      case "Params":
      case "Headers":
        return Effect.fail(new Errors.BadRequest({ error: describeIssue(error.cause.issue).text }))
      default:
        return Effect.fail(error)
    }
  })
}

const parseJson = (text: string): Option.Option<unknown> => {
  try {
    return Option.some(JSON.parse(text))
  } catch {
    return Option.none()
  }
}

/** The body was read already and is remembered by the request, so that asking for it again costs nothing. */
const payloadError = Effect.fnUntraced(function* (error: HttpApiError.HttpApiSchemaError) {
  const { key, text } = describeIssue(error.cause.issue)
  if (key !== "") return new Errors.BadJson({ error: text })
  const request = yield* HttpServerRequest.HttpServerRequest
  const body = parseJson(yield* Effect.orDie(request.text))
  if (Option.isNone(body)) return new Errors.NotJson({ error: "The body is not JSON" })
  return new Errors.BadJson({ error: isJsonObject(body.value) ? text : "The body is not a JSON object" })
})

const queryError = (error: HttpApiError.HttpApiSchemaError): Errors.BadPagination | Errors.BadRequest => {
  const { key, text } = describeIssue(error.cause.issue)
  return isPaginationKey(key.split(".")[0])
    ? new Errors.BadPagination({ error: text })
    : new Errors.BadRequest({ error: text })
}
