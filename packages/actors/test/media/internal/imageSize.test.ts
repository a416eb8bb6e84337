import { assert, describe, it } from "@effect/vitest"
import sharp from "sharp"
import { imageSize } from "../../../src/media/internal/imageSize.ts"

const picture = () => sharp({ create: { width: 279, height: 129, channels: 3, background: "#4a7" } })

describe("the size of an image", () => {
  it("is read from the header of each format", async () => {
    const files = {
      "image/png": picture().png(),
      "image/gif": picture().gif(),
      "image/jpeg": picture().withMetadata().jpeg(),
      "image/webp": picture().webp({ lossless: true })
    }
    for (const [type, file] of Object.entries(files)) {
      assert.deepStrictEqual(imageSize(type, await file.toBuffer()), { width: 279, height: 129 }, type)
    }
    const lossy = await picture().webp().toBuffer()
    assert.deepStrictEqual(imageSize("image/webp", lossy), { width: 279, height: 129 })
  })

  it("is not known of headers that are cut, empty or of another format", async () => {
    const png = await picture().png().toBuffer()
    const jpeg = await picture().jpeg().toBuffer()
    assert.isUndefined(imageSize("image/png", png.subarray(0, 20)))
    assert.isUndefined(imageSize("image/png", Buffer.alloc(100)))
    assert.isUndefined(imageSize("image/jpeg", png))
    assert.isUndefined(imageSize("image/jpeg", jpeg.subarray(0, 30)))
    assert.isUndefined(imageSize("image/jpeg", Buffer.from("ffd8ffe00000".repeat(20), "hex")))
    assert.isUndefined(imageSize("image/svg+xml", png))
  })
})
