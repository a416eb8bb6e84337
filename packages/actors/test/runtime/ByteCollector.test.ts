import { assert, describe, it } from "@effect/vitest"
import { ByteCollector } from "../../src/runtime/ByteCollector.ts"

describe("ByteCollector", () => {
  it("returns the bytes of chunks of all sizes in order", () => {
    const collector = new ByteCollector()
    const sizes = [
      0,
      1,
      4_095,
      4_096,
      3,
      70_000,
      1,
      ...Array.from({ length: 5_000 }, (_, index) => (index * 7) % 61),
      9_000,
      2
    ]
    const chunks = sizes.map((size, index) => Buffer.alloc(size, index % 251))
    for (const chunk of chunks) collector.add(chunk)
    const whole = Buffer.concat(chunks)
    assert.strictEqual(collector.length, whole.length)
    assert.isTrue(collector.take().equals(whole))
    assert.strictEqual(collector.length, 0)
    collector.add(Buffer.from("more"))
    assert.strictEqual(collector.take().toString(), "more")
    assert.strictEqual(collector.take().length, 0)
  })
})
