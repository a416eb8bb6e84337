/**
 * Files of this server for other home servers, as calls of `Media`.
 *
 * Source: "Content Repository" of the server-server specification.
 */
import { Media } from "@greenroom/actors/media/Media"
import { Thumbnails } from "@greenroom/actors/media/Thumbnails"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { ServerServerApi } from "@greenroom/protocol/server-server/ServerServerApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { multipartResponse } from "../MediaResponse.ts"

export const mediaFederationHandlers = HttpApiBuilder.group(ServerServerApi, "serverServer.media", (handlers) =>
  Effect.gen(function* () {
    const { serverName } = yield* HomeServerConfig
    const media = yield* Media
    const thumbnails = yield* Thumbnails

    const find = (mediaId: string, timeout: number | undefined) =>
      media.find({ origin: serverName, mediaId }, { authenticated: true, allowRemote: false, timeout })

    return handlers
      .handle("download", ({ params, query, request }) =>
        Effect.flatMap(find(params.mediaId, query.timeout_ms), (file) => multipartResponse(request, file))
      )
      .handle("thumbnail", ({ params, query, request }) =>
        Effect.gen(function* () {
          const { animated, height, method = "scale", width } = query
          const file = yield* find(params.mediaId, query.timeout_ms)
          const made = yield* thumbnails.of(file, { width, height, method, animated: animated === "true" })
          return yield* multipartResponse(request, made)
        })
      )
  })
)
