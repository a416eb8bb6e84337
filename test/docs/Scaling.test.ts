/** The configuration of nginx in docs/scaling.md. */
import * as fs from "node:fs/promises"
import { assert, describe, it } from "vitest"

const read = (file: string) => fs.readFile(new URL(`../../${file}`, import.meta.url), "utf8")

/** The directives without addresses, which differ between installations. */
const directivesOf = (text: string): ReadonlyArray<string> =>
  text
    .split("\n")
    .map((line) => line.replace(/#.*/, "").trim().replaceAll(/\s+/g, " "))
    .map((line) => line.replace(/^server [\w.]+:\w+ /, "server ADDRESS "))
    .filter((line) => line !== "" && !/^(listen|server_name) /.test(line))

describe("docs/scaling.md", () => {
  it("docs/scaling.md shows the configuration of nginx that the tests of clusters use", async () => {
    const [, shown = ""] = /```nginx\n(.*?)```/s.exec(await read("docs/scaling.md")) ?? []
    const used = await read("test/cluster/support/nginx.conf")
    const [, upstreamAndServer = ""] = /(upstream .*)^\}/ms.exec(used) ?? []
    assert.isNotEmpty(directivesOf(shown))
    assert.deepStrictEqual(directivesOf(shown), directivesOf(upstreamAndServer))
  })
})
