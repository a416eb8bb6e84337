/**
 * The settings of the content repository.
 */
import * as Context from "effect/Context"
import type * as Redacted from "effect/Redacted"
import type { AddressPolicy } from "../federation/AddressPolicy.ts"

/** The bucket of an S3-compatible store. */
export interface S3Options {
  /** `https://host:port`. */
  readonly endpoint: string
  readonly region: string
  readonly bucket: string
  readonly accessKeyId: string
  readonly secretAccessKey: Redacted.Redacted
  /** The prefix of object names (default: empty). */
  readonly prefix?: string
  /** Whether the bucket is in the path and not in the host name (default true). */
  readonly pathStyle?: boolean
}

/** The settings of the content repository. */
export interface MediaOptions {
  /**
   * The directory of the files (default: `media` in the data directory). Nodes of a cluster must share it. If neither it nor `s3` is
   * given, nodes store files in the database.
   */
  readonly directory?: string
  /** A store for the files. The directory is then used for uploads in progress only. */
  readonly s3?: S3Options
  /** The largest upload, in bytes (default 100 MiB). */
  readonly maxUploadBytes?: number
  /** The largest file that is fetched from another server, in bytes (default 100 MiB). */
  readonly maxRemoteBytes?: number
  /** The total size of the uploads of one user, in bytes (default 10 GiB). */
  readonly quotaBytes?: number
  /** The number of uploads of one user (default 100,000). */
  readonly quotaFiles?: number
  /**
   * The space for content of other servers in bytes (default 10 GiB), and as much for thumbnails. The least recently used content
   * is removed first, and the oldest thumbnails.
   */
  readonly remoteCacheBytes?: number
  /** The number of days without a download after which uploads are removed (default 0: never). */
  readonly localRetentionDays?: number
  /** The same for files of other servers. */
  readonly remoteRetentionDays?: number
  /** Whether previews of web pages are made (default true). */
  readonly urlPreviews?: boolean
  /** The addresses of web pages that are previewed (default "public"). */
  readonly previewAddresses?: AddressPolicy
  /** Whether files uploaded from now on are served to users and servers only, not by the old endpoints (default false). */
  readonly freezeUnauthenticated?: boolean
}

/** The default settings. */
export const mediaDefaults = {
  maxUploadBytes: 100 * 1024 * 1024,
  maxRemoteBytes: 100 * 1024 * 1024,
  quotaBytes: 10 * 1024 * 1024 * 1024,
  quotaFiles: 100_000,
  remoteCacheBytes: 10 * 1024 * 1024 * 1024,
  localRetentionDays: 0,
  remoteRetentionDays: 0,
  freezeUnauthenticated: false
} as const

/** The settings of the content repository, for the services that read them. */
export class MediaConfig extends Context.Service<MediaConfig, MediaOptions>()("greenroom/actors/MediaConfig") {}
