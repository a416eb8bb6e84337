/**
 * Files by the SHA-256 of their content: received as a stream, stored so that they survive a crash, read as a stream.
 * `Media` knows their names.
 *
 * `layerDisk` keeps them in a directory, which nodes of a cluster may share: a file is complete or absent under its name.
 * `S3Files` keeps them in an S3-compatible store, `DatabaseFiles` in the database.
 */
import { randomUUID } from "node:crypto"
import { createWriteStream } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import type { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { makeDataDirectory, syncDirectory } from "@greenroom/store/DataDirectory"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { atMost } from "./internal/atMost.ts"
import type { Received } from "./internal/Receive.ts"
import { MediaConfig } from "./MediaConfig.ts"

/** Bytes `start` to `end` of a file, both included. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/** The store of files, each named by the SHA-256 of its content. */
export class MediaFiles extends Context.Service<
  MediaFiles,
  {
    /** The directory for files that are being received. */
    readonly incoming: Effect.Effect<string>
    /** Stores a file that was received. When this ends the file survives a crash. */
    readonly put: (received: Received) => Effect.Effect<void>
    /** The bytes of a file. Errors: M_NOT_FOUND. The reader must end or destroy the stream. */
    readonly read: (sha256: Uint8Array, range?: ByteRange) => Effect.Effect<Readable, NotFound>
    /** A path at which the file, of so many bytes, can be read until the scope closes. Errors: M_NOT_FOUND. */
    readonly local: (sha256: Uint8Array, size: number) => Effect.Effect<string, NotFound, Scope.Scope>
    /** Removes the file. One that is not there is no error. */
    readonly remove: (sha256: Uint8Array) => Effect.Effect<void>
  }
>()("greenroom/actors/MediaFiles") {
  static readonly layerDisk = Layer.effect(
    MediaFiles,
    Effect.gen(function* () {
      const { dataDir } = yield* HomeServerConfig
      const { directory = path.join(dataDir, "media") } = yield* MediaConfig
      return MediaFiles.of(diskFiles(directory))
    })
  )
}

/** The error for content whose file is missing. */
export const lost = new NotFound({ error: "The content is not there any more" })

/** How much of a file is read ahead of the reader, in bytes. */
const readAhead = 256 * 1024

/** The directory where files are received, made when it is needed first. */
export const incomingDirectory = (directory: string): Effect.Effect<string> =>
  Effect.as(
    Effect.promise(() => makeDataDirectory(directory, 0o700)),
    directory
  )

/** A copy of a file of so many bytes on the disk, until the scope closes. */
export const localCopy = Effect.fnUntraced(function* (
  incoming: Effect.Effect<string>,
  read: Effect.Effect<Readable, NotFound>,
  size: number
) {
  const source = yield* read
  const file = path.join(yield* incoming, randomUUID())
  yield* Effect.addFinalizer(() => Effect.promise(() => fs.rm(file, { force: true })))
  yield* Effect.promise((signal) => pipeline(source, atMost(size), createWriteStream(file), { signal }))
  return file
})

/** Makes the directory of a file, so that it survives a crash. */
const prepare = async (file: string): Promise<void> => {
  const directory = path.dirname(file)
  if (await makeDataDirectory(directory, 0o700)) await syncDirectory(path.dirname(directory))
}

const diskFiles = (directory: string): MediaFiles["Service"] => {
  const pathOf = (sha256: Uint8Array): string => {
    const name = Buffer.from(sha256).toString("hex")
    return path.join(directory, "content", name.slice(0, 2), name.slice(2))
  }
  const incoming = path.join(directory, "incoming")

  const put = async ({ path: from, sha256 }: Received): Promise<void> => {
    const to = pathOf(sha256)
    await prepare(to)
    await fs.rename(from, to)
    await syncDirectory(path.dirname(to))
  }

  /** Opened here and not by the stream, so that a missing file fails before the answer begins. */
  const read = async (sha256: Uint8Array, range?: ByteRange): Promise<Readable> => {
    const handle = await fs.open(pathOf(sha256), "r")
    return handle.createReadStream({ highWaterMark: readAhead, ...range })
  }

  const notFound = (error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return lost
    throw error
  }

  return {
    incoming: incomingDirectory(incoming),
    put: (received) => Effect.promise(() => put(received)),
    read: (sha256, range) => Effect.tryPromise({ try: () => read(sha256, range), catch: notFound }),
    local: (sha256) =>
      Effect.tryPromise({ try: () => fs.access(pathOf(sha256)).then(() => pathOf(sha256)), catch: notFound }),
    remove: (sha256) => Effect.promise(() => fs.rm(pathOf(sha256), { force: true }))
  }
}
