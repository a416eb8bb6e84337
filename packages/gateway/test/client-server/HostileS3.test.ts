/** A store of files that is slow, broken or lies. */
import { readdirSync } from "node:fs"
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import type { S3Options } from "@greenroom/actors/media/MediaConfig"
import { serveHttp, temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect, Redacted } from "effect"
import { gatewayWith, register } from "../TestGateway.ts"
import { download, png, transfer, upload } from "./TestMedia.ts"

/** Sends bytes until the other side has had enough, or 1 GiB. Returns how many were sent. */
const endless = (response: ServerResponse) => {
  const page = Buffer.alloc(65_536, "a")
  const state = { sent: 0 }
  const more = () => {
    while (!response.destroyed && state.sent < 2 ** 30) {
      state.sent += page.length
      if (!response.write(page)) return void response.once("drain", more)
    }
    response.end()
  }
  more()
  return state
}

/** A store that keeps objects, until the test makes it answer otherwise. */
const makeStore = () => {
  const objects = new Map<string, Buffer>()
  const state: { answer: RequestListener | undefined } = { answer: undefined }
  const keep = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const name = (request.url ?? "").split("?")[0]!
    if (request.method === "PUT") objects.set(name, Buffer.concat(chunks))
    response.end(request.method === "GET" ? objects.get(name) : undefined)
  }
  const listener: RequestListener = (request, response) => void (state.answer ?? keep)(request, response)
  return { listener, state }
}

describe("a hostile S3-compatible store", () => {
  it.live(
    "occupies little memory and disk, and clients are asked to try again",
    () =>
      Effect.gen(function* () {
        const store = makeStore()
        const s3: S3Options = {
          endpoint: yield* serveHttp(store.listener),
          region: "us-east-1",
          bucket: "greenroom",
          accessKeyId: "green",
          secretAccessKey: Redacted.make("secret")
        }
        const dataDir = yield* temporaryDirectory("hostile-s3")
        yield* Effect.gen(function* () {
          const alice = yield* register("s3-hostile")
          const bytes = Buffer.from("0123456789")
          const text = yield* upload(alice, bytes)
          const image = yield* upload(alice, png, { type: "image/png" })
          assert.isTrue((yield* download(alice, text)).bytes.equals(bytes))

          let state = { sent: 0 }
          const endlessly = (status: number) => {
            store.state.answer = (_, response) => {
              response.writeHead(status, { "content-type": "application/xml" })
              state = endless(response)
            }
          }
          endlessly(500)
          const send = transfer("POST", "/_matrix/media/v3/upload", { as: alice, bytes: Buffer.from("more") })
          assert.strictEqual((yield* send).status, 503)
          assert.isBelow(state.sent, 16 * 1024 * 1024)
          const got = yield* download(alice, text)
          assert.deepStrictEqual([got.status, got.headers.get("retry-after")], [503, "1"])
          assert.isBelow(state.sent, 16 * 1024 * 1024)

          endlessly(200)
          assert.strictEqual((yield* send).status, 503)
          assert.isBelow(state.sent, 16 * 1024 * 1024)
          const thumbnail = `/_matrix/client/v1/media/thumbnail/${image}?width=32&height=32`
          assert.strictEqual((yield* transfer("GET", thumbnail, { as: alice })).status, 500)
          assert.isBelow(state.sent, 16 * 1024 * 1024)
          assert.isEmpty(readdirSync(path.join(dataDir, "media", "incoming")))

          // A part that is another part of the file.
          store.state.answer = (_, response) => void response.writeHead(200).end(bytes)
          const part = yield* download(alice, text, { range: "bytes=5-9" })
          assert.strictEqual(part.status, 503)

          store.state.answer = undefined
          assert.isTrue((yield* download(alice, text)).bytes.equals(bytes))
          assert.strictEqual((yield* send).status, 200)
        }).pipe(Effect.provide(gatewayWith({}, { dataDir, media: { s3 } })))
      }).pipe(Effect.scoped),
    60_000
  )
})
