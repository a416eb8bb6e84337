/**
 * Files of this server, as other home servers ask for them. The answer is `multipart/mixed`: a JSON object without a
 * meaning so far, and the file.
 *
 * Source: "Content Repository" of the server-server specification.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Bytes } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { thumbnailSize, waitForUpload } from "../client-server/MediaApi.ts"
import { OriginAuthentication } from "../federation/OriginAuthentication.ts"

const params = { mediaId: boundedText(255) }

export class MediaFederationGroup extends HttpApiGroup.make("serverServer.media")
  .add(
    HttpApiEndpoint.get("download", "/_matrix/federation/v1/media/download/:mediaId", {
      params,
      query: waitForUpload,
      success: Bytes
    }).annotateMerge(
      documented({ summary: "A file", text: "Errors: M_NOT_FOUND, M_NOT_YET_UPLOADED.", who: "any home server" })
    ),
    HttpApiEndpoint.get("thumbnail", "/_matrix/federation/v1/media/thumbnail/:mediaId", {
      params,
      query: { ...thumbnailSize, ...waitForUpload },
      success: Bytes
    }).annotateMerge(
      documented({
        summary: "A thumbnail of an image",
        text: "Errors: M_NOT_FOUND, M_NOT_YET_UPLOADED, M_UNKNOWN if the content is not an image, M_TOO_LARGE.",
        who: "any home server"
      })
    )
  )
  .middleware(OriginAuthentication)
  .annotateMerge(OpenApi.annotations({ title: "Files" })) {}
