/**
 * The settings of the content repository. A part of `GatewayConfig`.
 */
import { type MediaOptions, mediaDefaults, type S3Options } from "@greenroom/actors/media/MediaConfig"
import {
  type Configuration,
  optional,
  Secret,
  setting,
  Text,
  Truth,
  truthExpects,
  wholeNumber
} from "@greenroom/gateway/Setting"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

const bytes = wholeNumber("a number of bytes", 0, 1e15)
const days = wholeNumber("a number of days", 0, 36_500)

export const mediaSettings = {
  mediaDirectory: optional({
    name: "media.directory",
    description: "The directory of uploaded files, instead of `media` in the data directory",
    expects: "a directory",
    schema: Text
  }),
  mediaS3Endpoint: optional({
    name: "media.s3.endpoint",
    description: "An S3-compatible store for uploaded files, instead of the directory",
    expects: "a URL without a path, such as https://s3.example.org",
    schema: Schema.String.check(Schema.isPattern(/^https?:\/\/[^\s,/?#@]+$/))
  }),
  mediaS3Region: setting({
    name: "media.s3.region",
    description: "The region of the store",
    expects: "a text",
    schema: Text,
    fallback: "us-east-1"
  }),
  mediaS3Bucket: setting({
    name: "media.s3.bucket",
    description: "The bucket of the files",
    expects: "a text",
    schema: Text,
    fallback: "greenroom"
  }),
  mediaS3Prefix: optional({
    name: "media.s3.prefix",
    description: "The prefix of file names in the bucket",
    expects: "a text",
    schema: Text
  }),
  mediaS3AccessKeyId: optional({
    name: "media.s3.access_key_id",
    description: "The access key of the store",
    expects: "a text",
    schema: Text
  }),
  mediaS3SecretAccessKey: optional({
    name: "media.s3.secret_access_key",
    description: "The secret of the access key",
    expects: "a text",
    schema: Secret,
    secret: true
  }),
  mediaS3PathStyle: setting({
    name: "media.s3.path_style",
    description: "Put the bucket into the path, and not into the host name",
    expects: truthExpects,
    schema: Truth,
    fallback: true
  }),
  mediaMaxUploadBytes: setting({
    name: "media.max_upload_bytes",
    description: "The largest upload, in bytes",
    ...bytes,
    fallback: mediaDefaults.maxUploadBytes as number
  }),
  mediaMaxRemoteBytes: setting({
    name: "media.max_remote_bytes",
    description: "The largest file that is downloaded from another server, in bytes",
    ...bytes,
    fallback: mediaDefaults.maxRemoteBytes as number
  }),
  mediaRemoteCacheBytes: setting({
    name: "media.remote_cache_bytes",
    description: "The size of the cache of files of other servers, in bytes",
    ...bytes,
    fallback: mediaDefaults.remoteCacheBytes as number
  }),
  mediaLocalRetentionDays: setting({
    name: "media.local_retention_days",
    description: "The number of days without a download after which uploaded files are removed; 0 keeps them",
    ...days,
    fallback: mediaDefaults.localRetentionDays as number
  }),
  mediaRemoteRetentionDays: setting({
    name: "media.remote_retention_days",
    description: "The number of days without a download after which files of other servers are removed; 0 keeps them",
    ...days,
    fallback: mediaDefaults.remoteRetentionDays as number
  }),
  mediaQuotaBytes: setting({
    name: "media.quota_bytes",
    description: "The total size of the uploads of one user, in bytes",
    ...bytes,
    fallback: mediaDefaults.quotaBytes as number
  }),
  mediaQuotaFiles: setting({
    name: "media.quota_files",
    description: "The number of uploads of one user",
    ...wholeNumber("a number of files", 0, 1e12),
    fallback: mediaDefaults.quotaFiles as number
  }),
  mediaUrlPreviews: setting({
    name: "media.url_previews",
    description: "Fetch web pages for URL previews",
    expects: truthExpects,
    schema: Truth,
    fallback: true
  }),
  mediaPreviewPrivateAddresses: setting({
    name: "media.preview_private_addresses",
    description: "Preview pages in private networks and on this machine too. Users then see what only these can reach",
    expects: truthExpects,
    schema: Truth,
    fallback: false
  }),
  mediaFreezeUnauthenticated: setting({
    name: "media.freeze_unauthenticated",
    description: "Serve new uploads to logged-in users and to servers only, not by the old endpoints",
    expects: truthExpects,
    schema: Truth,
    fallback: mediaDefaults.freezeUnauthenticated as boolean
  })
} as const

type Config = Configuration<typeof mediaSettings>

const toS3Options = (config: Config): S3Options | undefined =>
  config.mediaS3Endpoint === undefined
    ? undefined
    : {
        endpoint: config.mediaS3Endpoint,
        region: config.mediaS3Region,
        bucket: config.mediaS3Bucket,
        accessKeyId: config.mediaS3AccessKeyId ?? "",
        secretAccessKey: config.mediaS3SecretAccessKey ?? Redacted.make(""),
        pathStyle: config.mediaS3PathStyle,
        ...(config.mediaS3Prefix === undefined ? {} : { prefix: config.mediaS3Prefix })
      }

/** The options of the content repository that follow from the settings. */
export const toMediaOptions = (config: Config): MediaOptions => ({
  ...(config.mediaS3Endpoint === undefined ? {} : { s3: toS3Options(config)! }),
  ...(config.mediaDirectory === undefined ? {} : { directory: config.mediaDirectory }),
  maxUploadBytes: config.mediaMaxUploadBytes,
  quotaBytes: config.mediaQuotaBytes,
  quotaFiles: config.mediaQuotaFiles,
  maxRemoteBytes: config.mediaMaxRemoteBytes,
  remoteCacheBytes: config.mediaRemoteCacheBytes,
  localRetentionDays: config.mediaLocalRetentionDays,
  remoteRetentionDays: config.mediaRemoteRetentionDays,
  urlPreviews: config.mediaUrlPreviews,
  ...(config.mediaPreviewPrivateAddresses ? { previewAddresses: "any" as const } : {}),
  freezeUnauthenticated: config.mediaFreezeUnauthenticated
})
