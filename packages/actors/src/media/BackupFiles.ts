/**
 * Uploaded files for `Backup` and `Restore` of the store, wherever `MediaFiles` keeps them.
 */
import type { Readable } from "node:stream"
import type { NotFound } from "@greenroom/protocol/MatrixError"
import type { ReadFile } from "@greenroom/store/Backup"
import type { FileTarget } from "@greenroom/store/Restore"
import * as Effect from "effect/Effect"
import { receive } from "./internal/Receive.ts"
import { MediaFiles } from "./MediaFiles.ts"

const read = (files: MediaFiles["Service"], sha256: Uint8Array): Effect.Effect<Readable | undefined> =>
  Effect.catch(files.read(sha256) as Effect.Effect<Readable | undefined, NotFound>, () => Effect.undefined)

/** Reads uploaded files for a backup. */
export const readFile: Effect.Effect<ReadFile, never, MediaFiles> = Effect.map(
  MediaFiles,
  (files) => (sha256) => Effect.runPromise(read(files, sha256))
)

const isThere = (files: MediaFiles["Service"], sha256: Uint8Array) =>
  Effect.map(read(files, sha256), (found) => {
    found?.destroy()
    return found !== undefined
  })

const put = Effect.fnUntraced(function* (files: MediaFiles["Service"], sha256: Uint8Array, content: Readable) {
  const incoming = yield* files.incoming
  const received = yield* receive(incoming, content, Number.MAX_SAFE_INTEGER)
  if (!Buffer.from(sha256).equals(received.sha256)) return false
  yield* files.put(received)
  return true
}, Effect.scoped)

/** The uploaded files of a restored backup. */
export const fileTarget: Effect.Effect<FileTarget, never, MediaFiles> = Effect.map(MediaFiles, (files) => ({
  has: (sha256) => Effect.runPromise(isThere(files, sha256)),
  put: (sha256, content) => Effect.runPromise(put(files, sha256, content)),
  remove: (sha256) => Effect.runPromise(files.remove(sha256))
}))
