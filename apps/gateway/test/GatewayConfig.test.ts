import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import type { Setting } from "@greenroom/gateway/Setting"
import { optionName } from "@greenroom/gateway/SettingSources"
import { settings } from "../src/GatewayConfig.ts"

/** The cells of the table of settings: names, options, default, meaning. */
const rows = readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8")
  .split("## Settings")[1]!
  .split("\n## ")[0]!
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .map((line) => line.split("|").map((cell) => cell.trim()))

const codes = (cell: string): ReadonlyArray<string> => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code!)

const documented = new Map(
  rows.flatMap(([, names = "", options = "", fallback = ""]) =>
    codes(names).map((name, index) => [name, { option: codes(options)[index], fallback }] as const)
  )
)

const all: ReadonlyArray<Setting<unknown>> = Object.values(settings)

describe("docs/configuration.md", () => {
  it("has every setting and no other", () => {
    assert.sameMembers(
      [...documented.keys()],
      all.map(({ name }) => name)
    )
  })

  it("has the options of the settings", () => {
    for (const setting of all) {
      const no = setting.flag === "switch" && setting.fallback === true ? "no-" : ""
      const option = setting.flag === undefined ? undefined : `--${no}${optionName(setting)}`
      assert.strictEqual(documented.get(setting.name)?.option, option, setting.name)
    }
  })

  it("has the defaults of texts, numbers and switches", () => {
    for (const { fallback, name } of all) {
      if (typeof fallback === "object" || fallback === undefined) continue
      assert.strictEqual(documented.get(name)?.fallback, `\`${fallback}\``, name)
    }
  })
})
