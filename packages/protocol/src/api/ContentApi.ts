/**
 * The content repository as clients of 2014 use it: a file is uploaded to one path and read by the URL that the answer
 * names. `/_matrix/media` and `/_matrix/client/v1/media` are what became of it.
 *
 * Source: "Content repository" of the draft, and the reference server of 2014.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication, Transfer } from "./Authentication.ts"
import { Bytes, body } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { boundedText } from "./Parameters.ts"

/** The path in the draft. */
export const contentPath = "/matrix/content"

const ContentToken = body(
  Schema.Struct({
    content_token: Schema.String.annotate({
      description: "The URL of the file",
      examples: ["https://example.org/matrix/content/SEsfnsuifSDFSSEF"]
    })
  })
)

const uploaded = documented({
  summary: "Upload a file",
  text: "The body is the file, whatever it is. Errors: M_TOO_LARGE, M_FORBIDDEN over the quota.",
  who: "any user",
  binary: true
})

export class ContentApi extends HttpApiGroup.make("content")
  .add(
    HttpApiEndpoint.post("upload", contentPath, { success: ContentToken })
      .middleware(Authentication)
      .annotate(Transfer, true)
      .annotateMerge(uploaded),
    HttpApiEndpoint.put("put", contentPath, { success: ContentToken })
      .middleware(Authentication)
      .annotate(Transfer, true)
      .annotateMerge(uploaded),
    HttpApiEndpoint.get("download", `${contentPath}/:mediaId`, {
      params: { mediaId: boundedText(255) },
      success: Bytes
    })
      .middleware(OptionalAuthentication)
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: "Download a file", text: "Errors: M_NOT_FOUND.", who: "anyone" }))
  )
  .annotateMerge(OpenApi.annotations({ title: "Content repository" })) {}
