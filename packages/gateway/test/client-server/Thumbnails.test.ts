import { readdirSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { crc32 } from "node:zlib"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import sharp from "sharp"
import { register, type TestUser } from "../TestGateway.ts"
import { mediaGateway, png, transfer, upload } from "./TestMedia.ts"

const { directory, layer: gateway } = mediaGateway()

const image = (width: number, height: number, format: "jpeg" | "png" | "webp" | "avif") =>
  Effect.promise(() =>
    sharp({
      create: { width, height, channels: 3, background: "teal", noise: { type: "gaussian", mean: 99, sigma: 9 } }
    })
      .toFormat(format)
      .toBuffer()
  )

/** An animation of `count` frames. */
const animation = (width: number, height: number, count: number) =>
  Effect.promise(async () => {
    const frames = Array.from({ length: count }, (_, index) =>
      sharp({ create: { width, height, channels: 3, background: { r: index * 40, g: 20, b: 90 } } })
        .png()
        .toBuffer()
    )
    return sharp(await Promise.all(frames), { join: { animated: true } })
      .gif()
      .toBuffer()
  })

const thumbnail = (as: TestUser, file: string, query: string) =>
  transfer("GET", `/_matrix/client/v1/media/thumbnail/${file}?${query}`, { as })

const sizeOf = (bytes: Buffer) =>
  Effect.promise(async () => {
    const { height, pages = 1, width } = await sharp(bytes, { animated: true }).metadata()
    return [width, height / pages, pages]
  })

const stored = () =>
  readdirSync(path.join(directory, "content"), { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile()
  ).length

/** A PNG whose header declares a size. */
const bomb = (width: number, height: number) => {
  const bytes = Buffer.from(png)
  bytes.writeUInt32BE(width, 16)
  bytes.writeUInt32BE(height, 20)
  bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29)
  return bytes
}

/** 8,000 by 8,000 pixels of one colour in a kilobyte, which take 1.2 GB to decode. */
const solid = readFileSync(new URL("bomb.avif", import.meta.url))

layer(gateway, { excludeTestServices: true })("thumbnails", (it) => {
  it.effect("images are scaled or cropped to at least the requested size, and never enlarged", () =>
    Effect.gen(function* () {
      const alice = yield* register("thumbs-alice")
      for (const [format, type] of [
        ["jpeg", "image/jpeg"],
        ["png", "image/png"],
        ["webp", "image/jpeg"],
        ["avif", "image/jpeg"]
      ] as const) {
        const file = yield* upload(alice, yield* image(1_000, 500, format), { type: `image/${format}` })
        const scaled = yield* thumbnail(alice, file, "width=320&height=240&method=scale")
        assert.deepStrictEqual([scaled.status, scaled.headers.get("content-type")], [200, type], format)
        assert.deepStrictEqual(yield* sizeOf(scaled.bytes), [320, 160, 1])
        assert.match(scaled.headers.get("content-disposition") ?? "", /^inline; filename=thumbnail\.(jpg|png)$/)
        const cropped = yield* thumbnail(alice, file, "width=90&height=90&method=crop")
        assert.deepStrictEqual(yield* sizeOf(cropped.bytes), [96, 96, 1])
        const large = yield* thumbnail(alice, file, "width=99999&height=99999")
        assert.deepStrictEqual(yield* sizeOf(large.bytes), [800, 400, 1])
      }
      const small = yield* upload(alice, png, { type: "image/png" })
      const same = yield* thumbnail(alice, small, "width=800&height=600&method=crop")
      assert.deepStrictEqual(yield* sizeOf(same.bytes), [1, 1, 1])
      const old = yield* transfer("GET", `/_matrix/media/r0/thumbnail/${small}?width=32&height=32`)
      assert.strictEqual(old.status, 200)
    })
  )

  it.effect("an animation stays animated if animated=true", () =>
    Effect.gen(function* () {
      const alice = yield* register("thumbs-animated")
      const file = yield* upload(alice, yield* animation(300, 200, 5), { type: "image/gif" })
      const moving = yield* thumbnail(alice, file, "width=96&height=96&method=scale&animated=true")
      assert.strictEqual(moving.headers.get("content-type"), "image/webp")
      assert.deepStrictEqual(yield* sizeOf(moving.bytes), [96, 64, 5])
      const still = yield* thumbnail(alice, file, "width=96&height=96&method=scale")
      assert.deepStrictEqual(yield* sizeOf(still.bytes), [96, 64, 1])
    })
  )

  it.effect("concurrent requests for a thumbnail create it once", () =>
    Effect.gen(function* () {
      const alice = yield* register("thumbs-once")
      const file = yield* upload(alice, yield* image(640, 640, "jpeg"))
      const before = stored()
      const answers = yield* Effect.all(
        Array.from({ length: 20 }, (_, index) => thumbnail(alice, file, `width=${70 + index}&height=${70 + index}`)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(answers.map(({ headers }) => headers.get("etag"))).size, 1)
      assert.strictEqual(stored(), before + 1)
    })
  )

  it.effect("other files and decompression bombs are refused, and the next image is served", () =>
    Effect.gen(function* () {
      const alice = yield* register("thumbs-hostile")
      const svg =
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'
      const half = (yield* image(500, 500, "jpeg")).subarray(0, 9_000)
      const hostile: ReadonlyArray<readonly [bytes: string | Uint8Array, status: number, errcode: string]> = [
        [svg, 400, "M_UNKNOWN"],
        ["hello", 400, "M_UNKNOWN"],
        ["", 400, "M_UNKNOWN"],
        [half, 400, "M_UNKNOWN"],
        [`GIF89a${"\u00ff".repeat(200)}`, 400, "M_UNKNOWN"],
        [bomb(60_000, 60_000), 413, "M_TOO_LARGE"],
        [bomb(10_000, 10_000), 400, "M_UNKNOWN"],
        [solid, 413, "M_TOO_LARGE"]
      ]
      for (const [bytes, status, errcode] of hostile) {
        const file = yield* upload(alice, bytes, { type: "image/png" })
        for (const _ of ["first", "again"]) {
          const got = yield* thumbnail(alice, file, "width=32&height=32")
          assert.deepStrictEqual([got.status, got.body.errcode], [status, errcode])
        }
      }
      const good = yield* upload(alice, yield* image(50, 50, "png"))
      assert.strictEqual((yield* thumbnail(alice, good, "width=32&height=32")).status, 200)
      for (const query of [
        "",
        "width=32",
        "width=0&height=32",
        "width=-1&height=1",
        "width=a&height=b",
        "width=1e3&height=1.5"
      ]) {
        assert.strictEqual((yield* thumbnail(alice, good, query)).status, 400, query)
      }
      assert.strictEqual((yield* thumbnail(alice, "green.test/none", "width=1&height=1")).status, 404)
    })
  )
})
