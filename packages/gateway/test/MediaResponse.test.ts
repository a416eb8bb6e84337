import { randomBytes } from "node:crypto"
import { get, type IncomingMessage } from "node:http"
import { Readable } from "node:stream"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import type { MediaFile } from "@greenroom/actors/media/Media"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Effect } from "effect"
import { HttpServerRequest } from "effect/http"
import { describe, vi } from "vitest"
import { mediaResponse, multipartResponse } from "../src/MediaResponse.ts"

const chunkBytes = 256 * 1024

/** A file in chunks, each in a buffer of its own. */
const fileOf = (count: number) => {
  const chunks = Array.from({ length: count }, () => Buffer.from(randomBytes(chunkBytes)))
  const content = Buffer.concat(chunks)
  const body = Readable.from(chunks, { objectMode: false, highWaterMark: chunkBytes })
  const file = {
    sha256: new Uint8Array(32),
    size: content.length,
    detectedType: undefined,
    contentType: "application/octet-stream",
    inline: false,
    fileName: undefined,
    read: () => Effect.succeed(body)
  } as MediaFile
  return { chunks, content, body, file }
}

const serve = (answer: typeof mediaResponse | typeof multipartResponse, file: MediaFile) =>
  Effect.gen(function* () {
    const app = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => answer(request, file))
    return yield* serveHttp(yield* NodeHttpServer.makeHandler(Effect.orDie(app), { scope: yield* Effect.scope }))
  })

const ask = (url: string) =>
  Effect.callback<IncomingMessage>((resume) => {
    get(url, (response) => resume(Effect.succeed(response))).on("error", () => {})
  })

const readAll = (response: IncomingMessage) => Effect.promise(async () => Buffer.concat(await response.toArray()))

describe("the answer with a file", () => {
  it.effect("is whole, and the memory of its chunks is freed as the connection takes them", () =>
    Effect.gen(function* () {
      const { chunks, content, file } = fileOf(40)
      const got = yield* readAll(yield* ask(yield* serve(mediaResponse, file)))
      assert.isTrue(got.equals(content))
      assert.isTrue(chunks.every(({ length }) => length === 0))
    }).pipe(Effect.scoped)
  )

  it.effect("is whole for another server", () =>
    Effect.gen(function* () {
      const { content, file } = fileOf(40)
      const got = yield* readAll(yield* ask(yield* serve(multipartResponse, file)))
      assert.isTrue(got.includes(content))
    }).pipe(Effect.scoped)
  )

  it.effect("keeps the chunks that a slow client has not read, and closes the file when the client disconnects", () =>
    Effect.gen(function* () {
      const { body, chunks, content, file } = fileOf(100)
      const response = yield* ask(yield* serve(mediaResponse, file))
      const first = yield* Effect.callback<Buffer>((resume) => {
        response.once("data", (chunk: Buffer) => {
          response.pause()
          resume(Effect.succeed(chunk))
        })
      })
      assert.isTrue(first.equals(content.subarray(0, first.length)))
      assert.isAbove(chunks.filter(({ length }) => length > 0).length, 50)
      response.destroy()
      yield* Effect.promise(() => vi.waitUntil(() => body.destroyed, { timeout: 30_000 }))
      assert.isAbove(chunks.filter(({ length }) => length > 0).length, 50)
    }).pipe(Effect.scoped)
  )
})
