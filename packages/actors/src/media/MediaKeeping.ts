/**
 * The retention of files, and their administration: content IDs that were never used expire, files that were not used for
 * long are removed if so configured, the content of other servers and thumbnails stay within their bounds, and files without a
 * content ID are removed.
 *
 * Removing a file removes its content ID at once, and its bytes with the next sweep after an hour, since another upload of
 * the same content may be running.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { isServerName, type ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { BadRequest, Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { removeInBatches } from "@greenroom/store/Batches"
import { type MediaName, type MediaRow, MediaStore, type Quota } from "@greenroom/store/MediaStore"
import { periodically } from "@greenroom/store/Supervision"
import { underLease } from "@greenroom/store/WriteLease"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { MediaConfig, mediaDefaults } from "./MediaConfig.ts"
import { MediaFiles } from "./MediaFiles.ts"

const sweepInterval = "10 minutes"

const day = 86_400_000

/** Content whose upload began within this time is kept, in ms. */
const grace = 3_600_000

/** How many files of other servers are kept, however small they are. */
const maxRemoteFiles = 500_000

/** How many rows one statement removes. */
const batch = 200

/** A file that was being received is given up after so long without a byte, in ms. */
const abandonedAfter = 3_600_000

/** The parts of `mxc://origin/mediaId`. Errors: M_UNKNOWN. */
export const parseMxc = (uri: string): Effect.Effect<MediaName, BadRequest> => {
  const [, origin = "", mediaId = ""] = /^mxc:\/\/([^/]+)\/([A-Za-z0-9_-]{1,255})$/.exec(uri) ?? []
  return isServerName(origin)
    ? Effect.succeed({ origin: origin as ServerName, mediaId })
    : Effect.fail(new BadRequest({ error: "Expected a URI such as mxc://example.org/SEsfnsuifSDFSSEF" }))
}

const missing = new NotFound({ error: "There is no such content here" })
const protectedContent = new Forbidden({ error: "This content is protected from quarantine" })

/** Retention, quarantine and removal of files. */
export class MediaKeeping extends Context.Service<
  MediaKeeping,
  {
    /**
     * Stops serving content, whatever content IDs it has here or gets later, except those that are protected. `by` says who decided.
     * Errors: M_NOT_FOUND, M_FORBIDDEN for a content ID that is protected.
     */
    readonly quarantine: (name: MediaName, by: string) => Effect.Effect<void, MatrixError>
    /** Serves content again. Errors: M_NOT_FOUND. */
    readonly release: (name: MediaName) => Effect.Effect<void, MatrixError>
    /** Protects a content ID of this server from quarantine and from removal by age, or ends that. Errors: M_NOT_FOUND. */
    readonly protect: (name: MediaName, isProtected: boolean) => Effect.Effect<void, MatrixError>
    /** Forgets a content ID. Content of other servers may be fetched again. Errors: M_NOT_FOUND. */
    readonly remove: (name: MediaName) => Effect.Effect<void, MatrixError>
    /** Forgets everything that a user has uploaded: how many content IDs. */
    readonly removeAllOf: (userId: UserId) => Effect.Effect<number>
    /** The uploads of a user, the newest first, at most 100; those that follow `last` in this order. */
    readonly uploadsOf: (userId: UserId, last?: MediaRow) => Effect.Effect<ReadonlyArray<MediaRow>>
    /** How much a user has uploaded. */
    readonly usageOf: (userId: UserId) => Effect.Effect<Quota>
  }
>()("greenroom/actors/MediaKeeping") {
  /** For the command line, beside a server that runs or not: the server removes the bytes. */
  static readonly layerOnStores = Layer.effect(
    MediaKeeping,
    Effect.gen(function* () {
      const { serverName } = yield* HomeServerConfig
      return MediaKeeping.of(makeActions(yield* MediaStore, serverName))
    })
  )

  /** Also sweeps. */
  static readonly layer = Layer.effect(
    MediaKeeping,
    Effect.gen(function* () {
      const store = yield* MediaStore
      const files = yield* MediaFiles
      const { serverName } = yield* HomeServerConfig
      const config = { ...mediaDefaults, ...(yield* MediaConfig) }
      const actions = makeActions(store, serverName)

      /** Removes files that no content ID names, until none is left. */
      const removeUnused: Effect.Effect<void> = Effect.gen(function* () {
        const before = (yield* Clock.currentTimeMillis) - grace
        const removed = yield* store.removeUnused(before, batch, (hash) => underLease(files.remove(hash)))
        if (removed > 0) yield* removeUnused
      })

      const sweep = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const { localRetentionDays, remoteCacheBytes, remoteRetentionDays } = config
        yield* removeInBatches(batch, store.removeExpired(now, batch))
        if (localRetentionDays > 0)
          yield* removeInBatches(batch, store.removeLocal(serverName, now - localRetentionDays * day, batch))
        if (remoteRetentionDays > 0)
          yield* removeInBatches(batch, store.removeRemote(now - remoteRetentionDays * day, batch))
        yield* removeInBatches(batch, store.trimRemote({ bytes: remoteCacheBytes, files: maxRemoteFiles }, batch))
        // A file has hundreds of sizes and counts once against a quota; thumbnails are made again when they are asked for.
        yield* removeInBatches(batch, store.trimThumbnails(remoteCacheBytes, batch))
        for (const userId of yield* store.erasedUploaders) yield* actions.removeAllOf(userId)
        yield* removeUnused
      })
      yield* periodicallyOnce("Removing files that are not needed any more", sweepInterval, sweep)

      const removeAbandoned = Effect.gen(function* () {
        const directory = yield* files.incoming
        const now = yield* Clock.currentTimeMillis
        yield* Effect.promise(() => removeOlder(directory, now - abandonedAfter))
      })
      yield* periodically("Removing uploads that were broken off", sweepInterval, removeAbandoned)

      return MediaKeeping.of(actions)
    })
  )
}

const removeOlder = async (directory: string, before: number): Promise<void> => {
  for (const name of await fs.readdir(directory)) {
    const file = path.join(directory, name)
    const found = await fs.stat(file).catch(() => undefined)
    if (found !== undefined && found.mtimeMs < before) await fs.rm(file, { force: true })
  }
}

const makeActions = (store: MediaStore["Service"], serverName: ServerName): MediaKeeping["Service"] => {
  const found = (changed: boolean) => (changed ? Effect.void : Effect.fail(missing))
  return {
    quarantine: Effect.fnUntraced(function* (name, by) {
      const row = yield* store.find(name)
      if (Option.isSome(row) && row.value.isProtected) return yield* protectedContent
      yield* Effect.flatMap(store.quarantine(name, by, name.origin !== serverName), found)
    }),
    release: (name) => Effect.flatMap(store.quarantine(name, undefined, false), found),
    protect: (name, isProtected) => Effect.flatMap(store.protect(name, isProtected), found),
    remove: (name) => Effect.flatMap(store.remove(name), found),
    removeAllOf: (userId) => removeInBatches(batch, store.removeUploads(userId, batch)),
    uploadsOf: (userId, last) => store.uploadsOf(userId, last, 100),
    usageOf: store.usageOf
  }
}
