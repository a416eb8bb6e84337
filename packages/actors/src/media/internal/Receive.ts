/**
 * Receiving a file from a stream: into a temporary file on the disk, hashed on the way, at most as long and not slower
 * than allowed. One chunk is in memory at a time; the sender waits while it is written.
 */
import { createHash, randomUUID } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import type { Readable } from "node:stream"
import { BadRequest, type MatrixError, TooLarge } from "@greenroom/protocol/MatrixError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { freeBuffer } from "../FreeBuffer.ts"

/** A file that has arrived and is on the disk under a temporary name. */
export interface Received {
  readonly path: string
  readonly sha256: Uint8Array
  /** Bytes. */
  readonly size: number
  /** The first bytes, by which the type is detected. */
  readonly head: Uint8Array
}

/** The length of the beginning by which the type of a file is determined. */
const headBytes = 4_096

/** How long a sender may take, in ms, beside the time that the received bytes take at the lowest rate. */
const startTime = 60_000
/** Bytes a millisecond. */
const lowestRate = 4

const checkInterval = 5_000

const brokenOff = new BadRequest({ error: "The content did not arrive whole" })
const tooSlow = new BadRequest({ error: "The content arrives too slowly" })
export const tooLarge = (maxBytes: number) => new TooLarge({ error: `The content is larger than ${maxBytes} bytes` })

/** Ends the stream when its sender is too slow, and calls `late`: a generator is not ended before it gets its next chunk. */
const watchRate = (source: Readable, received: () => number, late: (error: BadRequest) => void): (() => void) => {
  const begin = performance.now()
  const timer = setInterval(() => {
    if (performance.now() - begin <= startTime + received() / lowestRate) return
    source.destroy(tooSlow)
    late(tooSlow)
  }, checkInterval)
  return () => clearInterval(timer)
}

/** Writes all of a stream to a file. Rejects with an error of the protocol, or of the file system. */
const write = async (source: Readable, file: fs.FileHandle, maxBytes: number): Promise<Omit<Received, "path">> => {
  const hash = createHash("sha256")
  const head: Array<Uint8Array> = []
  let size = 0
  const all = async () => {
    // The server drains the rest of a body that is too large.
    for await (const chunk of source.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      if (size < headBytes) head.push(Buffer.from(chunk.subarray(0, headBytes - size)))
      size += chunk.length
      if (size > maxBytes) throw tooLarge(maxBytes)
      hash.update(chunk)
      await onDisk(file.write(chunk))
      freeBuffer(chunk)
    }
    await onDisk(file.sync())
  }
  const { promise: late, reject } = Promise.withResolvers<never>()
  const unwatch = watchRate(source, () => size, reject)
  try {
    await Promise.race([all(), late])
  } finally {
    unwatch()
  }
  return { sha256: hash.digest(), size, head: Buffer.concat(head) }
}

/** The disk of this server failed, and not the sender. */
class DiskFailed extends Error {}

const onDisk = async (work: Promise<unknown>): Promise<void> => {
  await work.catch((cause) => {
    throw new DiskFailed("The file could not be written", { cause })
  })
}

/** An error of the stream is an answer to the sender, one of the disk a defect. */
const toMatrixError = (error: unknown): MatrixError => {
  if (error instanceof DiskFailed) throw error
  return error instanceof TooLarge || error instanceof BadRequest ? error : brokenOff
}

/**
 * Receives a file into `directory`. It is gone when the scope closes, unless it was moved. Errors: M_TOO_LARGE, M_UNKNOWN
 * where it breaks off.
 */
export const receive = (
  directory: string,
  source: Readable,
  maxBytes: number
): Effect.Effect<Received, MatrixError, Scope.Scope> =>
  Effect.gen(function* () {
    const file = path.join(directory, randomUUID())
    yield* Effect.addFinalizer(() => Effect.promise(() => fs.rm(file, { force: true })))
    const written = yield* Effect.acquireUseRelease(
      Effect.promise(() => fs.open(file, "wx", 0o600)),
      (handle) => Effect.tryPromise({ try: () => write(source, handle, maxBytes), catch: toMatrixError }),
      (handle) => Effect.promise(() => handle.close())
    )
    return { path: file, ...written }
  })
