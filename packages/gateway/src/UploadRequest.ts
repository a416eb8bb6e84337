/**
 * A request whose body is a file.
 */
import type { IncomingMessage } from "node:http"
import type { Upload } from "@greenroom/actors/media/Media"
import type { HttpServerRequest } from "effect/http"

/** The body of a request as a file. */
export const uploadOf = (request: HttpServerRequest.HttpServerRequest, fileName: string | undefined): Upload => {
  const body = request.source as IncomingMessage
  const length = body.headers["content-length"]
  return {
    body,
    length: length === undefined ? undefined : Number(length),
    contentType: body.headers["content-type"],
    fileName
  }
}
