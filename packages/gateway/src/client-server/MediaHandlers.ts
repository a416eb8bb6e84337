/**
 * The content repository, as calls of `Media`.
 *
 * Source: "Content repository" of the client-server specification.
 */
import { Media, mxc } from "@greenroom/actors/media/Media"
import { Thumbnails } from "@greenroom/actors/media/Thumbnails"
import { UrlPreviews } from "@greenroom/actors/media/UrlPreviews"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { mediaResponse } from "../MediaResponse.ts"
import { uploadOf } from "../UploadRequest.ts"

export const uploadHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.upload", (handlers) =>
  withServices(function* () {
    const media = yield* Media
    const previews = yield* UrlPreviews
    return handlers
      .handle("upload", ({ query, request }) =>
        CurrentSession.use((session) =>
          Effect.map(media.upload(session, uploadOf(request, query.filename)), (name) => ({ content_uri: mxc(name) }))
        )
      )
      .handle("create", () =>
        CurrentSession.use((session) =>
          Effect.map(media.create(session), ({ expiresAt, name }) => ({
            content_uri: mxc(name),
            unused_expires_at: expiresAt
          }))
        )
      )
      .handle("uploadTo", ({ params: { mediaId, serverName }, query, request }) =>
        CurrentSession.use((session) =>
          Effect.as(media.uploadTo(session, { origin: serverName, mediaId }, uploadOf(request, query.filename)), done)
        )
      )
      .handle("previewUrl", ({ query }) => CurrentSession.use((session) => previews.preview(session, query.url)))
      .handle("config", () => Effect.succeed({ "m.upload.size": media.maxUploadBytes }))
  })
)

interface Download {
  readonly params: { readonly serverName: ServerName; readonly mediaId: string; readonly fileName?: string }
  readonly query: {
    readonly timeout_ms?: number | undefined
    readonly allow_remote?: "true" | "false" | undefined
  }
  readonly request: HttpServerRequest.HttpServerRequest
}

interface ThumbnailDownload extends Download {
  readonly query: Download["query"] & {
    readonly width: number
    readonly height: number
    readonly method?: "crop" | "scale" | undefined
    readonly animated?: "true" | "false" | undefined
  }
}

/** Answers downloads, with an access token or without. */
const downloads = (authenticated: boolean) =>
  Effect.gen(function* () {
    const media = yield* Media
    const thumbnails = yield* Thumbnails

    const find = ({ params: { mediaId, serverName }, query }: Download) =>
      media.find(
        { origin: serverName, mediaId },
        { authenticated, timeout: query.timeout_ms, allowRemote: query.allow_remote !== "false" }
      )

    const download = (asked: Download) =>
      Effect.flatMap(find(asked), (file) => mediaResponse(asked.request, file, asked.params.fileName))

    const thumbnail = (asked: ThumbnailDownload) =>
      Effect.gen(function* () {
        const { animated, height, method = "scale", width } = asked.query
        const file = yield* find(asked)
        const made = yield* thumbnails.of(file, { width, height, method, animated: animated === "true" })
        return yield* mediaResponse(asked.request, made)
      })

    return { download, thumbnail }
  })

export const mediaHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.media", (handlers) =>
  withServices(function* () {
    const { maxUploadBytes } = yield* Media
    const previews = yield* UrlPreviews
    const { download, thumbnail } = yield* downloads(true)
    return handlers
      .handle("download", download)
      .handle("downloadAs", download)
      .handle("thumbnail", thumbnail)
      .handle("previewUrl", ({ query }) => CurrentSession.use((session) => previews.preview(session, query.url)))
      .handle("config", () => Effect.succeed({ "m.upload.size": maxUploadBytes }))
  })
)

/** Requests without an access token get only the content that is public. */
export const oldMediaHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.oldMedia", (handlers) =>
  withServices(function* () {
    const { download, thumbnail } = yield* downloads(false)
    return handlers.handle("download", download).handle("downloadAs", download).handle("thumbnail", thumbnail)
  })
)
