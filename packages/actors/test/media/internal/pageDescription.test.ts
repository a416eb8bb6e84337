import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import { type Description, describePage } from "../../../src/media/internal/pageDescription.ts"

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

const used = () => {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

describe("describePage", () => {
  it("the description of a large page keeps nothing else of it in memory", async () => {
    const before = used()
    const kept: Array<Description> = []
    for (let page = 0; page < 50; page++) {
      const head = `<title>Without-a-space-number-${page}</title><meta property="og:url" content="https://tea.test/page/${page}">`
      kept.push(await describePage(Buffer.from(`${head}${"x".repeat(1_000_000)}`), "text/html"))
    }
    assert.isBelow(used() - before, 10_000_000)
    assert.deepStrictEqual(kept[49], {
      "og:title": "Without-a-space-number-49",
      "og:url": "https://tea.test/page/49"
    })
  })
})
