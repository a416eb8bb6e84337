import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import type { Setting } from "@greenroom/gateway/Setting"
import { settings } from "../src/IdentityConfig.ts"

/** The names of the table of settings, with a `*` for those without an option. `.port` after `smtp.host` is `smtp.port`. */
const documented = readFileSync(new URL("../../../docs/identity.md", import.meta.url), "utf8")
  .split("## Settings")[1]!
  .split("\n## ")[0]!
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .flatMap((line) => {
    const names = [...line.split("|")[1]!.matchAll(/`([^`]+)`(\*?)/g)]
    const group = names[0]![1]!.split(".")[0]!
    return names.map(([, name, mark]) => `${name!.startsWith(".") ? group : ""}${name}${mark}`)
  })

const all: ReadonlyArray<Setting<unknown>> = Object.values(settings)

describe("docs/identity.md", () => {
  it("has every setting and no other, and says which have no option", () => {
    assert.sameMembers(
      documented,
      all.map(({ flag, name }) => (flag === undefined ? `${name}*` : name))
    )
  })
})
