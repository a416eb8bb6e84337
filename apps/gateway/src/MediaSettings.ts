/**
 * The settings of the content repository. A part of `GatewayConfig`.
 */
import { type MediaOptions, mediaDefaults } from "@greenroom/actors/media/MediaConfig"
import { type Configuration, integer, optional, setting, Text, Truth, truthExpects } from "@greenroom/gateway/Setting"

const bytesExpects = "a number of bytes"
const Bytes = integer(0, 1e15)

export const mediaSettings = {
  mediaDirectory: optional({
    name: "media.directory",
    description: "Where uploaded files are kept, instead of `media` in the data directory",
    expects: "a directory",
    schema: Text
  }),
  mediaMaxUploadBytes: setting({
    name: "media.max_upload_bytes",
    description: "The largest upload, in bytes",
    expects: bytesExpects,
    schema: Bytes,
    fallback: mediaDefaults.maxUploadBytes as number
  }),
  mediaQuotaBytes: setting({
    name: "media.quota_bytes",
    description: "How many bytes each user may upload in all",
    expects: bytesExpects,
    schema: Bytes,
    fallback: mediaDefaults.quotaBytes as number
  }),
  mediaFreezeUnauthenticated: setting({
    name: "media.freeze_unauthenticated",
    description: "Serve files that are uploaded from now on to users and servers only, not by the old endpoints",
    expects: truthExpects,
    schema: Truth,
    fallback: mediaDefaults.freezeUnauthenticated as boolean
  })
} as const

/** The options of the home server that the settings say. */
export const toMediaOptions = (config: Configuration<typeof mediaSettings>): MediaOptions => ({
  ...(config.mediaDirectory === undefined ? {} : { directory: config.mediaDirectory }),
  maxUploadBytes: config.mediaMaxUploadBytes,
  quotaBytes: config.mediaQuotaBytes,
  freezeUnauthenticated: config.mediaFreezeUnauthenticated
})
