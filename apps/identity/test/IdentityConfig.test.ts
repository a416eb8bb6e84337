import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import type { Setting } from "@greenroom/gateway/Setting"
import { settings } from "../src/IdentityConfig.ts"

/** The names of the table of settings, with a `*` for those without an option. `.port` after `smtp.host` is `smtp.port`. */
/** The settings as they are documented, with a mark behind those that have no option, and their defaults. */
const documented = new Map(
  readFileSync(new URL("../../../docs/identity.md", import.meta.url), "utf8")
    .split("## Settings")[1]!
    .split("\n## ")[0]!
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .flatMap((line) => {
      const [, cell = "", fallback = ""] = line.split("|")
      const names = [...cell.matchAll(/`([^`]+)`(\*?)/g)]
      const group = names[0]![1]!.split(".")[0]!
      return names.map(([, name, mark]) => [`${name!.startsWith(".") ? group : ""}${name}${mark}`, fallback] as const)
    })
)

const all: ReadonlyArray<Setting<unknown>> = Object.values(settings)

const nameOf = ({ flag, name }: Setting<unknown>): string => (flag === undefined ? `${name}*` : name)

describe("docs/identity.md", () => {
  it("has every setting and no other, and says which have no option", () => {
    assert.sameMembers([...documented.keys()], all.map(nameOf))
  })

  it("has the defaults of texts, numbers and switches", () => {
    for (const setting of all) {
      if (typeof setting.fallback === "object" || setting.fallback === undefined) continue
      assert.include(documented.get(nameOf(setting)), String(setting.fallback), setting.name)
    }
  })
})
