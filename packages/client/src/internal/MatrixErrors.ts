/**
 * Errors on the wire, decoded into the tagged errors of the protocol.
 */
import { BadRequest, LimitExceeded, MatrixError } from "@greenroom/protocol/MatrixError"
import { Option, Schema } from "effect"

const decode = Schema.decodeUnknownOption(MatrixError)

/** The error of a response body. A code that this client does not know becomes M_UNKNOWN. */
export const fromErrorBody = (body: {
  readonly errcode: string
  readonly error: string
  readonly retry_after_ms?: number
}): MatrixError => {
  const { errcode, error } = body
  if (errcode === "M_LIMIT_EXCEEDED") return new LimitExceeded({ error, retry_after_ms: body.retry_after_ms ?? 1_000 })
  return Option.getOrElse(decode({ ...body, _tag: errcode }), () => new BadRequest({ error: `${errcode}: ${error}` }))
}
