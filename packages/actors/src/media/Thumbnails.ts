/**
 * Thumbnails of images: made once for each content and size, and kept like other files. Requests for one that is being
 * made wait for it.
 *
 * Source: "Thumbnails" of the client-server specification.
 */
import { randomUUID } from "node:crypto"
import { createReadStream } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { BadRequest, LimitExceeded, type MatrixError, TooLarge } from "@greenroom/protocol/MatrixError"
import { setNewest } from "@greenroom/store/BoundedMap"
import { MediaStore, type ThumbnailRow } from "@greenroom/store/MediaStore"
import { Context, Effect, Layer, Option, type Scope } from "effect"
import { makeInFlight } from "../runtime/InFlight.ts"
import { receive } from "./internal/Receive.ts"
import { makeThumbnailProcess, type ThumbnailJob, type ThumbnailResult } from "./internal/ThumbnailProcess.ts"
import type { MediaFile } from "./Media.ts"
import { MediaFiles } from "./MediaFiles.ts"

/** The size that a client asks for, in pixels. */
export interface ThumbnailRequest {
  readonly width: number
  readonly height: number
  readonly method: "crop" | "scale"
  /** Whether an animation may stay one. */
  readonly animated: boolean
}

/** Widths and heights that thumbnails are made in. A request gets the next larger ones, so that a file has few thumbnails. */
const steps = [32, 64, 96, 160, 240, 320, 480, 640, 800]

const stepFor = (pixels: number): number => steps.find((step) => step >= pixels) ?? steps.at(-1)!

/** The bounds of images that are decoded at all. */
const imageTypes: ReadonlySet<string> = new Set([
  "image/jpeg",
  "image/png",
  "image/apng",
  "image/webp",
  "image/gif",
  "image/avif"
])

/** How many thumbnails may wait to be made. */
const maxWaiting = 200

/** The largest thumbnail, in bytes: an animation may be longer than its frames are large. */
const maxBytes = 20 * 1024 * 1024

/** Files of which no thumbnail can be made are remembered, so many of them. */
const maxFailures = 1_000

const noImage = new BadRequest({ error: "There is no thumbnail of this kind of file" })
const tooBusy = new LimitExceeded({
  error: "Too many thumbnails are being made, try again later",
  retry_after_ms: 5_000
})
const problems: { readonly [problem: string]: MatrixError } = {
  "no-image": noImage,
  "too-large": new TooLarge({ error: "The image has too many pixels" }),
  "too-much-memory": new TooLarge({ error: "The image takes too much memory to read" }),
  "too-slow": new TooLarge({ error: "The image takes too long to read" }),
  busy: tooBusy
}

const extensions: { readonly [type: string]: string } = {
  "image/jpeg": "jpg",
  "image/png": "png",
  "image/webp": "webp"
}

/** Thumbnails of images. */
export class Thumbnails extends Context.Service<
  Thumbnails,
  {
    /**
     * The thumbnail of a file. Callers: everybody who may read the file. Errors: M_UNKNOWN for files that are no image,
     * M_TOO_LARGE.
     */
    readonly of: (file: MediaFile, request: ThumbnailRequest) => Effect.Effect<MediaFile, MatrixError>
  }
>()("greenroom/actors/Thumbnails") {
  static readonly layer = Layer.effect(
    Thumbnails,
    Effect.gen(function* () {
      const files = yield* MediaFiles
      const store = yield* MediaStore
      const run = yield* makeThumbnailProcess()
      const making = makeInFlight<ThumbnailRow, MatrixError>(yield* Effect.scope)
      const failures = new Map<string, MatrixError>()

      /** Makes a thumbnail and stores it: when this ends it survives a crash. */
      const make = Effect.fnUntraced(function* (
        file: MediaFile,
        request: ThumbnailRequest,
        variant: string
      ): Effect.fn.Return<ThumbnailRow, MatrixError, Scope.Scope> {
        const incoming = yield* files.incoming
        const output = path.join(incoming, randomUUID())
        yield* Effect.addFinalizer(() => Effect.promise(() => fs.rm(output, { force: true })))
        const input = yield* files.local(file.sha256, file.size)
        const result = yield* run({ input, output, ...request } satisfies ThumbnailJob)
        const contentType = yield* contentTypeOf(result)
        const received = yield* receive(incoming, createReadStream(output), maxBytes)
        const row = { sha256: received.sha256, size: received.size, contentType }
        yield* store.touch(row.sha256, row.size)
        yield* files.put(received)
        yield* store.addThumbnail(file.sha256, variant, row)
        return row
      }, Effect.scoped)

      /** Later requests fail at once, unless the machine was at fault and not the file. */
      const remember = (key: string, error: MatrixError): void => {
        if (error !== tooBusy) setNewest(failures, key, error, maxFailures)
      }

      const makeOnce = Effect.fnUntraced(function* (file: MediaFile, request: ThumbnailRequest, variant: string) {
        const key = `${Buffer.from(file.sha256).toString("hex")} ${variant}`
        const failure = failures.get(key)
        if (failure !== undefined) return yield* failure
        if (making.size() >= maxWaiting) return yield* tooBusy
        return yield* making.once(
          key,
          Effect.tapError(make(file, request, variant), (error) => Effect.sync(() => remember(key, error)))
        )
      })

      const of = Effect.fn("Thumbnails.of")(function* (file: MediaFile, wanted: ThumbnailRequest) {
        if (!imageTypes.has(file.detectedType ?? "")) return yield* noImage
        const request = { ...wanted, width: stepFor(wanted.width), height: stepFor(wanted.height) }
        const variant = `${request.width}x${request.height} ${request.method}${request.animated ? " animated" : ""}`
        const found = yield* store.thumbnail(file.sha256, variant)
        const row = Option.isSome(found) ? found.value : yield* makeOnce(file, request, variant)
        return {
          ...row,
          detectedType: row.contentType,
          inline: true,
          fileName: `thumbnail.${extensions[row.contentType]}`,
          read: (range) => files.read(row.sha256, range)
        } satisfies MediaFile
      })

      return Thumbnails.of({ of })
    })
  )
}

const contentTypeOf = (result: ThumbnailResult): Effect.Effect<string, MatrixError> =>
  "contentType" in result ? Effect.succeed(result.contentType) : Effect.fail(problems[result.problem]!)
