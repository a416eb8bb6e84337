/**
 * The content repository: uploads, and files by their `mxc://` URI. Since version 1.11 downloads need an access token and
 * are below `/_matrix/client/v1/media`; the endpoints of before are below `/_matrix/media`.
 *
 * Source: "Content repository" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication, Transfer } from "../api/Authentication.ts"
import { Bytes, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { ServerName } from "../Identifiers.ts"
import { Count } from "./RoomsApi.ts"

const Mxc = Schema.String.annotate({
  description: "The `mxc://` URI of the content",
  examples: ["mxc://example.org/SEsfnsuifSDFSSEF"]
})

const ContentUri = body(Schema.Struct({ content_uri: Mxc }))
const ReservedUri = body(
  Schema.Struct({
    content_uri: Mxc,
    unused_expires_at: Schema.Int.annotate({ description: "Milliseconds since 1970" })
  })
)
const MediaLimits = body(
  Schema.Struct({ "m.upload.size": Schema.Int.annotate({ description: "The largest upload, in bytes" }) })
)

const name = { serverName: ServerName, mediaId: boundedText(255) }
const named = { ...name, fileName: boundedText(4_096) }
const upload = { filename: Schema.optional(boundedText(4_096)) }
/** The parameter of a download that may have to wait. */
export const waitForUpload = {
  timeout_ms: Schema.optional(Count.annotate({ description: "Milliseconds to wait for an upload that was announced" }))
}
const unauthenticated = {
  ...waitForUpload,
  allow_remote: Schema.optional(Schema.Literals(["true", "false"])),
  allow_redirect: Schema.optional(Schema.Literals(["true", "false"]))
}

const Pixels = Count.check(Schema.isGreaterThan(0))
/** The parameters of a thumbnail. */
export const thumbnailSize = {
  width: Pixels.annotate({ description: "Pixels that are wanted; the thumbnail may be larger" }),
  height: Pixels.annotate({ description: "Pixels that are wanted; the thumbnail may be larger" }),
  method: Schema.optional(Schema.Literals(["crop", "scale"])),
  animated: Schema.optional(Schema.Literals(["true", "false"]))
}

const Preview = body(
  Schema.StructWithRest(
    Schema.Struct({
      "og:title": Schema.optionalKey(Schema.String),
      "og:description": Schema.optionalKey(Schema.String),
      "og:image": Schema.optionalKey(Mxc),
      "matrix:image:size": Schema.optionalKey(Schema.Int)
    }),
    [Schema.Record(Schema.String, Schema.Json)]
  ).annotate({ identifier: "UrlPreview" })
)

const thumbnailed =
  "JPEG or PNG, and WebP for an animation that stays one. No larger than the image. Errors: M_NOT_FOUND, " +
  "M_NOT_YET_UPLOADED, M_UNKNOWN if the content is not an image, M_TOO_LARGE for too many pixels."
const previewed = { url: boundedText(4_096), ts: Schema.optional(Count) }
const previewText =
  "By the names of Open Graph; the image is an `mxc://` URI. Pages at addresses that are not public have none. Errors: " +
  "M_NOT_FOUND, M_INVALID_PARAM."
const downloaded =
  "The type is as its bytes show, and what a browser would run is for saving only. Takes `Range`, `If-None-Match` and " +
  "`If-Range`. Errors: M_NOT_FOUND, M_NOT_YET_UPLOADED."
const uploaded = "The body is the file, whatever it is. Errors: M_TOO_LARGE, M_FORBIDDEN over the quota."
const old = "for old clients, which send no access token"

export class UploadApi extends HttpApiGroup.make("clientServer.upload")
  .add(
    HttpApiEndpoint.post("upload", "/_matrix/media/v3/upload", { query: upload, success: ContentUri })
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: "Upload a file", text: uploaded, who: "any user", binary: true })),
    HttpApiEndpoint.post("create", "/_matrix/media/v1/create", { success: ReservedUri }).annotateMerge(
      documented({
        summary: "Create a content ID for a later upload",
        text: "It expires if no upload follows in time. Errors: M_LIMIT_EXCEEDED with too many unused ones.",
        who: "any user"
      })
    ),
    HttpApiEndpoint.put("uploadTo", "/_matrix/media/v3/upload/:serverName/:mediaId", {
      params: name,
      query: upload,
      success: Done
    })
      .annotate(Transfer, true)
      .annotateMerge(
        documented({
          summary: "Upload the file of a content ID",
          text: `${uploaded} M_NOT_FOUND, M_CANNOT_OVERWRITE_MEDIA.`,
          who: "the user who created the content ID",
          binary: true
        })
      ),
    HttpApiEndpoint.get("previewUrl", "/_matrix/media/v3/preview_url", {
      query: previewed,
      success: Preview
    }).annotateMerge(
      documented({ summary: "A preview of a web page, for older clients", text: previewText, who: "any user" })
    ),
    HttpApiEndpoint.get("config", "/_matrix/media/v3/config", { success: MediaLimits }).annotateMerge(
      documented({ summary: "The largest upload, for older clients", who: "any user" })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Uploads" })) {}

export class MediaApi extends HttpApiGroup.make("clientServer.media")
  .add(
    HttpApiEndpoint.get("download", "/v1/media/download/:serverName/:mediaId", {
      params: name,
      query: waitForUpload,
      success: Bytes
    })
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: "Download a file", text: downloaded, who: "any user" })),
    HttpApiEndpoint.get("downloadAs", "/v1/media/download/:serverName/:mediaId/:fileName", {
      params: named,
      query: waitForUpload,
      success: Bytes
    })
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: "Download a file, under a name", text: downloaded, who: "any user" })),
    HttpApiEndpoint.get("thumbnail", "/v1/media/thumbnail/:serverName/:mediaId", {
      params: name,
      query: { ...thumbnailSize, ...waitForUpload },
      success: Bytes
    })
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: "A thumbnail of an image", text: thumbnailed, who: "any user" })),
    HttpApiEndpoint.get("previewUrl", "/v1/media/preview_url", { query: previewed, success: Preview }).annotateMerge(
      documented({ summary: "A preview of a web page", text: previewText, who: "any user" })
    ),
    HttpApiEndpoint.get("config", "/v1/media/config", { success: MediaLimits }).annotateMerge(
      documented({ summary: "The largest upload", who: "any user" })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Downloads" })) {}

export class OldMediaApi extends HttpApiGroup.make("clientServer.oldMedia")
  .add(
    HttpApiEndpoint.get("download", "/_matrix/media/v3/download/:serverName/:mediaId", {
      params: name,
      query: unauthenticated,
      success: Bytes
    })
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: `Download a file, ${old}`, text: downloaded, who: "anyone" })),
    HttpApiEndpoint.get("downloadAs", "/_matrix/media/v3/download/:serverName/:mediaId/:fileName", {
      params: named,
      query: unauthenticated,
      success: Bytes
    })
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: `Download a file under a name, ${old}`, text: downloaded, who: "anyone" }))
  )
  .add(
    HttpApiEndpoint.get("thumbnail", "/_matrix/media/v3/thumbnail/:serverName/:mediaId", {
      params: name,
      query: { ...thumbnailSize, ...unauthenticated },
      success: Bytes
    })
      .annotate(Transfer, true)
      .annotateMerge(documented({ summary: `A thumbnail of an image, ${old}`, text: thumbnailed, who: "anyone" }))
  )
  .middleware(OptionalAuthentication)
  .annotateMerge(OpenApi.annotations({ title: "Downloads without an access token" })) {}
