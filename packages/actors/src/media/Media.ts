/**
 * The content repository: uploads, content IDs whose upload follows, and files by their `mxc://` URI.
 *
 * A file answered with 200 is on the disk and in the database. Equal content is stored once, however often it is uploaded.
 *
 * Source: "Content repository" of the client-server specification.
 */
import { randomBytes } from "node:crypto"
import type { Readable } from "node:stream"
import type { UserId } from "@greenroom/protocol/Identifiers"
import {
  CannotOverwriteMedia,
  Forbidden,
  LimitExceeded,
  type MatrixError,
  NotFound,
  NotYetUploaded
} from "@greenroom/protocol/MatrixError"
import { type MediaName, type MediaRow, MediaStore, type StoredContent } from "@greenroom/store/MediaStore"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Clock, Context, Effect, Layer, Option, type Scope } from "effect"
import { Bans } from "../runtime/Bans.ts"
import { Departure } from "../runtime/Departure.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { makeInFlight } from "../runtime/InFlight.ts"
import type { Session } from "../runtime/Session.ts"
import { SessionRevocations } from "../runtime/SessionRevocations.ts"
import { safeFileName } from "./FileName.ts"
import { Arrivals } from "./internal/Arrivals.ts"
import { type Received, receive, tooLarge } from "./internal/Receive.ts"
import { MediaConfig, mediaDefaults } from "./MediaConfig.ts"
import { type ByteRange, MediaFiles } from "./MediaFiles.ts"
import { detectType, servedType } from "./MediaType.ts"
import { RemoteMedia, unavailable } from "./RemoteMedia.ts"

/** A file as a client sends it. */
export interface Upload {
  readonly body: Readable
  /** The length that the client declares, in bytes. */
  readonly length: number | undefined
  readonly contentType: string | undefined
  readonly fileName: string | undefined
}

/** A file that can be read. */
export interface MediaFile {
  readonly sha256: Uint8Array
  /** Bytes. */
  readonly size: number
  /** The type that its first bytes show. */
  readonly detectedType: string | undefined
  /** The form in which a browser may see it. */
  readonly contentType: string
  /** Whether a browser may show it in place. */
  readonly inline: boolean
  readonly fileName: string | undefined
  /** The bytes of it. The reader must end or destroy the stream. Errors: M_NOT_FOUND. */
  readonly read: (range?: ByteRange) => Effect.Effect<Readable, NotFound>
}

/** The reader of a file, and the longest time to wait for it. */
export interface MediaRequest {
  /** False for the old endpoints, which ask for no access token. */
  readonly authenticated: boolean
  /** How long to wait for an upload that was announced, in ms. */
  readonly timeout?: number | undefined
  /** False if other servers must not be asked (default true). */
  readonly allowRemote?: boolean | undefined
}

/** How long a content ID waits for its upload, in ms. */
const reservation = 24 * 3_600_000

/** How many content IDs a user may have that wait for their uploads. */
const maxReservations = 100

/** When a user with too many may come back, in ms. */
const reservationRetry = 60_000

/** How long a download waits for its upload, in ms: by default and at most. */
const defaultTimeout = 20_000
const maxTimeout = 120_000

/** The use of a file is noted once in this time, in ms. */
const useInterval = 24 * 3_600_000

/** How many files of other servers are fetched at a time. */
const maxFetches = 100

const tooBusy = new LimitExceeded({ error: "Too many files are being fetched, try again later", retry_after_ms: 5_000 })
const notFound = new NotFound({ error: "There is no such content" })
const notYet = new NotYetUploaded({ error: "The content has not been uploaded yet" })
const overQuota = new Forbidden({ error: "Your quota of uploads is used up" })

const isMediaId = (mediaId: string): boolean => /^[A-Za-z0-9_-]{1,255}$/.test(mediaId)

/** The `mxc://` URI of a content ID. */
export const mxc = ({ mediaId, origin }: MediaName): string => `mxc://${origin}/${mediaId}`

/** The content repository: uploads and downloads of files by `mxc://` URI. */
export class Media extends Context.Service<
  Media,
  {
    /** The largest upload, in bytes. */
    readonly maxUploadBytes: number
    /** Stores a file; its `mxc://` URI. Any user. Errors: M_TOO_LARGE, M_FORBIDDEN over the quota. */
    readonly upload: (session: Session, upload: Upload) => Effect.Effect<MediaName, MatrixError>
    /** A content ID whose upload follows. `expiresAt` is in ms since 1970. Any user. Errors: M_LIMIT_EXCEEDED. */
    readonly create: (
      session: Session
    ) => Effect.Effect<{ readonly name: MediaName; readonly expiresAt: number }, MatrixError>
    /** The upload of a content ID. Its creator. Errors: M_NOT_FOUND, M_FORBIDDEN, M_CANNOT_OVERWRITE_MEDIA, M_TOO_LARGE. */
    readonly uploadTo: (session: Session, name: MediaName, upload: Upload) => Effect.Effect<void, MatrixError>
    /** A file. Errors: M_NOT_FOUND, M_NOT_YET_UPLOADED. */
    readonly find: (name: MediaName, request: MediaRequest) => Effect.Effect<MediaFile, MatrixError>
  }
>()("greenroom/actors/Media") {
  static readonly layer = Layer.effect(
    Media,
    Effect.gen(function* () {
      const { serverName } = yield* HomeServerConfig
      const { whileStaying } = yield* Departure
      const config = { ...mediaDefaults, ...(yield* MediaConfig) }
      const { freezeUnauthenticated, maxRemoteBytes, maxUploadBytes } = config
      const quota = { bytes: config.quotaBytes, files: config.quotaFiles }
      const remote = yield* RemoteMedia
      const fetching = makeInFlight<void, MatrixError>(yield* Effect.scope)
      const files = yield* MediaFiles
      const store = yield* MediaStore
      const bans = yield* Bans
      const revocations = yield* SessionRevocations
      const arrivals = new Arrivals()

      const newName = (): MediaName => ({ origin: serverName, mediaId: randomBytes(18).toString("base64url") })

      /** Refuses an upload before it is read, where it is known to be refused after it. */
      const checkRoom = Effect.fnUntraced(function* (userId: UserId, { length = 0 }: Upload) {
        if (length > maxUploadBytes) return yield* tooLarge(maxUploadBytes)
        const { bytes, files } = yield* store.usageOf(userId)
        if (bytes + length > quota.bytes || files >= quota.files) return yield* overQuota
      })

      /** Stores the received content: when this ends it survives a crash. */
      const keep = Effect.fnUntraced(function* (
        received: Received,
        contentType: string | undefined,
        fileName: string | undefined
      ): Effect.fn.Return<StoredContent, MatrixError> {
        const { head, sha256, size } = received
        const detectedType = yield* detectType(head)
        yield* bans.check("sha256", Buffer.from(sha256).toString("hex"))
        yield* store.touch(sha256, size)
        yield* files.put(received)
        return { sha256, size, contentType, detectedType, fileName: safeFileName(fileName) }
      })

      const receiveUpload = Effect.fnUntraced(function* (
        session: Session,
        upload: Upload
      ): Effect.fn.Return<StoredContent, MatrixError, Scope.Scope> {
        const received = yield* receive(yield* files.incoming, upload.body, maxUploadBytes)
        yield* revocations.check(session)
        return yield* keep(received, upload.contentType, upload.fileName)
      })

      const upload = Effect.fn("Media.upload")(function* (session: Session, upload: Upload) {
        yield* checkRoom(session.userId, upload)
        const content = yield* receiveUpload(session, upload)
        const name = newName()
        const added = yield* store.add({
          ...name,
          userId: session.userId,
          content,
          authenticated: freezeUnauthenticated,
          quota
        })
        return added ? name : yield* overQuota
      }, Effect.scoped)

      const create = Effect.fn("Media.create")(function* ({ userId }: Session) {
        const name = newName()
        const expiresAt = (yield* Clock.currentTimeMillis) + reservation
        const row = { ...name, userId, authenticated: freezeUnauthenticated }
        if (yield* store.reserve(row, expiresAt, maxReservations)) return { name, expiresAt }
        return yield* new LimitExceeded({
          error: `You have ${maxReservations} content IDs that wait for their uploads`,
          retry_after_ms: reservationRetry
        })
      })

      /** A content ID of this server that may get its content from the user. */
      const checkReserved = Effect.fnUntraced(function* ({ userId }: Session, name: MediaName) {
        const row = Option.getOrUndefined(yield* store.find(name))
        const now = yield* Clock.currentTimeMillis
        if (row === undefined || name.origin !== serverName) return yield* notFound
        if (row.userId !== userId) return yield* new Forbidden({ error: "The content ID belongs to another user" })
        if (row.content !== undefined) return yield* hasContent
        if (row.expiresAt !== undefined && row.expiresAt <= now) return yield* notFound
      })

      const uploadTo = Effect.fn("Media.uploadTo")(function* (session: Session, name: MediaName, upload: Upload) {
        yield* checkReserved(session, name)
        yield* checkRoom(session.userId, upload)
        const content = yield* receiveUpload(session, upload)
        const row = { ...name, userId: session.userId, content, authenticated: freezeUnauthenticated, quota }
        switch (yield* store.complete(row)) {
          case "no-such-id":
            return yield* notFound
          case "has-content":
            return yield* hasContent
          case "over-quota":
            return yield* overQuota
          case "done":
            arrivals.arrived(mxc(name))
        }
      }, Effect.scoped)

      /** The row of a content ID: waits for its content until `deadline` of the monotonic clock. */
      const findRow = (name: MediaName, deadline: number): Effect.Effect<MediaRow, MatrixError> =>
        Effect.flatMap(store.find(name), (found) =>
          Effect.gen(function* () {
            const row = Option.getOrUndefined(found)
            const now = yield* Clock.currentTimeMillis
            if (row === undefined) return yield* notFound
            if (row.content !== undefined) return row
            if (row.expiresAt !== undefined && row.expiresAt <= now) return yield* notFound
            const left = deadline - (yield* monotonicMillis)
            if (left <= 0) return yield* notYet
            yield* arrivals.wait(mxc(name), left)
            return yield* findRow(name, deadline)
          })
        )

      const noteUse = Effect.fnUntraced(function* (row: MediaRow) {
        const now = yield* Clock.currentTimeMillis
        if (Math.abs(now - row.lastUsedAt) > useInterval) yield* store.used(row, now)
      })

      const toFile = (content: StoredContent): MediaFile => ({
        sha256: content.sha256,
        size: content.size,
        detectedType: content.detectedType,
        ...servedType(content.contentType, content.detectedType),
        fileName: content.fileName,
        read: (range) => files.read(content.sha256, range)
      })

      /** Fetches content of another server and keeps it. */
      const fetchRemote = (name: MediaName, wait: number): Effect.Effect<void, MatrixError> =>
        Effect.scoped(
          Effect.gen(function* () {
            const { body, contentType, fileName } = yield* remote.fetch(name, wait)
            const received = yield* receive(yield* files.incoming, body, maxRemoteBytes).pipe(
              Effect.catchTag("M_UNKNOWN", () => Effect.fail(unavailable(name)))
            )
            yield* store.putRemote(name, yield* keep(received, contentType, fileName), freezeUnauthenticated)
          })
        )

      /** The row of content of another server, which is fetched where it is not here. */
      const findRemoteRow = Effect.fnUntraced(function* (name: MediaName, wait: number) {
        const found = yield* store.find(name)
        if (Option.isSome(found) && (found.value.content !== undefined || found.value.quarantinedBy !== undefined)) {
          return found.value
        }
        if (fetching.size() >= maxFetches) return yield* tooBusy
        yield* fetching.once(mxc(name), whileStaying(fetchRemote(name, wait)))
        return Option.getOrUndefined(yield* store.find(name)) ?? (yield* notFound)
      })

      const find = Effect.fn("Media.find")(function* (name: MediaName, request: MediaRequest) {
        if (!isMediaId(name.mediaId)) return yield* notFound
        const isOurs = name.origin === serverName
        if (!isOurs && request.allowRemote === false) return yield* notFound
        const wait = Math.min(request.timeout ?? defaultTimeout, maxTimeout)
        const row = isOurs ? yield* findRow(name, (yield* monotonicMillis) + wait) : yield* findRemoteRow(name, wait)
        if (row.quarantinedBy !== undefined || (row.authenticated && !request.authenticated)) return yield* notFound
        yield* noteUse(row)
        return toFile(row.content!)
      })

      return Media.of({ maxUploadBytes, upload, create, uploadTo, find })
    })
  )
}

const hasContent = new CannotOverwriteMedia({ error: "The content ID already has content" })
