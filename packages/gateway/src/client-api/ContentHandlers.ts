/**
 * The content repository as clients of 2014 use it, as calls of `Media`.
 *
 * Source: "Content repository" of the draft, and the reference server of 2014.
 */
import { Media } from "@greenroom/actors/media/Media"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { contentPath } from "@greenroom/protocol/api/ContentApi"
import { Effect } from "effect"
import type { HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { mediaResponse } from "../MediaResponse.ts"
import { uploadOf } from "../UploadRequest.ts"
import { withServices } from "./EndpointServices.ts"

export const contentHandlers = HttpApiBuilder.group(ClientApi, "content", (handlers) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const media = yield* Media
    const publicUrl = yield* PublicUrl

    const upload = ({ request }: { readonly request: HttpServerRequest.HttpServerRequest }) =>
      CurrentSession.use((session) =>
        Effect.map(media.upload(session, uploadOf(request, undefined)), ({ mediaId }) => ({
          content_token: `${publicUrl.get()}${contentPath}/${mediaId}`
        }))
      )

    return handlers
      .handle("upload", upload)
      .handle("put", upload)
      .handle("download", ({ params: { mediaId }, request }) =>
        media
          .find({ origin: serverName, mediaId }, { authenticated: false, timeout: 0 })
          .pipe(Effect.flatMap((file) => mediaResponse(request, file)))
      )
  })
)
