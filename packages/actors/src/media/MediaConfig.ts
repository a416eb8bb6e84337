/**
 * The settings of the content repository.
 */
import { Context } from "effect"

export interface MediaOptions {
  /** Where files are kept and received (default: `media` in the data directory). Nodes of a cluster share it. */
  readonly directory?: string
  /** The largest upload, in bytes (default 100 MiB). */
  readonly maxUploadBytes?: number
  /** How many bytes each user may upload in all (default: 10 GiB). */
  readonly quotaBytes?: number
  /** Whether files uploaded from now on are served to users and servers only, not by the old endpoints (default false). */
  readonly freezeUnauthenticated?: boolean
}

/** What holds where the operator says nothing. */
export const mediaDefaults = {
  maxUploadBytes: 100 * 1024 * 1024,
  quotaBytes: 10 * 1024 * 1024 * 1024,
  freezeUnauthenticated: false
} as const

export class MediaConfig extends Context.Service<MediaConfig, MediaOptions>()("greenroom/actors/MediaConfig") {}
