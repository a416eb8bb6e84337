/**
 * `MediaFiles` of nodes that share neither a directory nor an object store: files are put into the database, where every node
 * finds them. Files that are in the directory of a node, from before, are served from there.
 *
 * A process that runs alone uses its directory, and reads what it ran with others before from the database.
 */
import * as fs from "node:fs/promises"
import { Readable } from "node:stream"
import { MediaChunkStore } from "@greenroom/store/MediaChunkStore"
import { Effect, Layer } from "effect"
import { Nodes } from "../runtime/Nodes.ts"
import type { Received } from "./internal/Receive.ts"
import { MediaConfig } from "./MediaConfig.ts"
import { type ByteRange, localCopy, lost, MediaFiles } from "./MediaFiles.ts"

const chunkBytes = 256 * 1024

/** The same layer, whose files are in the database where nodes share no other place. */
export const layerOver = <E, R>(configured: Layer.Layer<MediaFiles, E, R>) =>
  Layer.effect(
    MediaFiles,
    Effect.gen(function* () {
      const files = yield* MediaFiles
      const chunks = yield* MediaChunkStore
      const { isCluster } = yield* Nodes
      const { directory, s3 } = yield* MediaConfig
      const putsHere = isCluster && directory === undefined && s3 === undefined

      const put = ({ path, sha256, size }: Received) =>
        Effect.acquireUseRelease(
          Effect.promise(() => fs.open(path, "r")),
          (file) => {
            const write = (position: number) =>
              Effect.flatMap(
                Effect.promise(() => file.read(new Uint8Array(chunkBytes), 0, chunkBytes, position * chunkBytes)),
                ({ buffer, bytesRead }) => chunks.write(sha256, position, buffer.subarray(0, bytesRead))
              )
            const count = Math.max(1, Math.ceil(size / chunkBytes))
            const positions = [...Array.from({ length: count - 1 }, (_, index) => index + 1), 0]
            return Effect.forEach(positions, write, { discard: true })
          },
          (file) => Effect.promise(() => file.close())
        )

      const bytesOf = async function* (sha256: Uint8Array, last: number, { end, start }: ByteRange) {
        for (let position = Math.floor(start / chunkBytes); position <= last; position++) {
          const begin = position * chunkBytes
          if (begin > end) return
          const bytes = await Effect.runPromise(chunks.read(sha256, position))
          if (bytes === undefined) throw lost
          yield bytes.subarray(Math.max(0, start - begin), Math.min(bytes.length, end + 1 - begin))
        }
      }

      const read = Effect.fnUntraced(function* (
        sha256: Uint8Array,
        range: ByteRange = { start: 0, end: Number.MAX_SAFE_INTEGER }
      ) {
        const last = yield* chunks.last(sha256)
        if (last === undefined) return yield* lost
        return Readable.from(bytesOf(sha256, last, range), { objectMode: false })
      })

      return MediaFiles.of({
        incoming: files.incoming,
        put: putsHere ? put : files.put,
        read: (sha256, range) => Effect.catch(files.read(sha256, range), () => read(sha256, range)),
        local: (sha256, size) =>
          Effect.catch(files.local(sha256, size), () => localCopy(files.incoming, read(sha256), size)),
        remove: (sha256) => Effect.andThen(files.remove(sha256), chunks.remove(sha256))
      })
    })
  ).pipe(Layer.provide([configured, MediaChunkStore.layer]))
