/**
 * The errors of the protocol as they travel, `{"errcode": "M_...", "error": "..."}`, and the middleware by which a
 * request that does not fit the schemas of its endpoint is answered with one of them.
 *
 * Source: "API Standards" of the draft.
 */
import { Effect } from "effect"
import { HttpServerRequest } from "effect/http"
import { type HttpApiError, HttpApiMiddleware } from "effect/http-api"
import { describeIssue } from "../IssueDescription.ts"
import { isJsonObject, parseJsonText } from "../Json.ts"
import * as Errors from "../MatrixError.ts"
import { isPaginationKey } from "../Pagination.ts"
import { wire } from "../WireErrorClass.ts"

/** Every error in its wire form. A handler may fail with any of them. */
export const wireErrors = Errors.MatrixError.members.map((member) => wire(member))

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

const payloadError = (error: HttpApiError.HttpApiSchemaError) => {
  const { key, text } = describeIssue(error.cause.issue)
  return key === "" ? wholeBodyError(text) : Effect.succeed(new Errors.BadJson({ error: text }))
}

/**
 * The error of a body that is refused as a whole, of which `text` says why if it is a JSON object. The request remembers its body,
 * so that reading it again costs nothing.
 */
export const wholeBodyError = Effect.fnUntraced(function* (text: string) {
  const request = yield* HttpServerRequest.HttpServerRequest
  const body = parseJsonText(yield* Effect.orDie(request.text))
  if (body === undefined) return new Errors.NotJson({ error: "The body is not JSON" })
  return new Errors.BadJson({ error: isJsonObject(body) ? text : "The body is not a JSON object" })
})

const queryError = (error: HttpApiError.HttpApiSchemaError): Errors.BadPagination | Errors.BadRequest => {
  const { key, text } = describeIssue(error.cause.issue)
  return isPaginationKey(key.split(".")[0])
    ? new Errors.BadPagination({ error: text })
    : new Errors.BadRequest({ error: text })
}
