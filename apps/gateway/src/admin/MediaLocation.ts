/**
 * The uploaded files of the configured server, for commands that read or write them.
 */
import * as path from "node:path"
import { MediaConfig } from "@greenroom/actors/media/MediaConfig"
import * as S3Files from "@greenroom/actors/media/S3Files"
import { Departure } from "@greenroom/actors/runtime/Departure"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import * as Layer from "effect/Layer"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { toMediaOptions } from "../MediaSettings.ts"

/** The store of the files, as the server uses it. */
export const mediaFiles = (config: GatewayConfig) => {
  const options = toMediaOptions(config)
  return S3Files.layerConfigured(options.s3).pipe(
    Layer.provide([Layer.succeed(MediaConfig, options), Departure.layer]),
    Layer.provide(Layer.succeed(HomeServerConfig, { serverName: config.serverName, dataDir: config.dataDir }))
  )
}

/** The bucket of the files, such as `greenroom of https://s3.example.org`; undefined if they are in a directory. */
export const bucketOf = (config: GatewayConfig): string | undefined =>
  config.mediaS3Endpoint === undefined ? undefined : `${config.mediaS3Bucket} of ${config.mediaS3Endpoint}`

/** The directory of the files. */
export const mediaDirectoryOf = (config: GatewayConfig): string =>
  config.mediaDirectory ?? path.join(config.dataDir, "media")
