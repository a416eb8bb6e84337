import * as fs from "node:fs/promises"
import * as path from "node:path"
import { assert, it } from "@effect/vitest"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect } from "effect"
import sharp from "sharp"
import { makeThumbnailProcess } from "../../../src/media/internal/ThumbnailProcess.ts"

const job = Effect.map(temporaryDirectory("thumbnail"), (directory) => ({
  input: path.join(directory, "image.png"),
  output: path.join(directory, "thumbnail.png"),
  width: 32,
  height: 32,
  method: "scale" as const,
  animated: false
}))

const draw = (file: string) =>
  Effect.promise(() =>
    sharp({ create: { width: 90, height: 60, channels: 3, background: "green" } })
      .png()
      .toFile(file)
  )

it.live(
  "a thumbnail that times out on a busy machine is made by the next process, and its image is not marked as broken",
  () =>
    Effect.gen(function* () {
      const thumbnail = yield* job
      yield* draw(thumbnail.input)
      const hurried = yield* makeThumbnailProcess(1)
      assert.deepStrictEqual(yield* hurried(thumbnail), { problem: "busy" })
      assert.deepStrictEqual(yield* hurried(thumbnail), { problem: "busy" })
      const run = yield* makeThumbnailProcess()
      assert.deepStrictEqual(yield* run(thumbnail), { contentType: "image/png" })
    }).pipe(Effect.scoped)
)

it.live("a file that cannot be read does not end the process for the next one", () =>
  Effect.gen(function* () {
    const [bad, good] = [yield* job, yield* job]
    yield* Effect.promise(() => fs.writeFile(bad.input, "no image"))
    yield* draw(good.input)
    const run = yield* makeThumbnailProcess()
    assert.deepStrictEqual(yield* run(bad), { problem: "no-image" })
    assert.deepStrictEqual(yield* run(good), { contentType: "image/png" })
  }).pipe(Effect.scoped)
)
