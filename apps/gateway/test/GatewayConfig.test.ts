import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { settings } from "../src/GatewayConfig.ts"

const documentation = readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8")

describe("GatewayConfig", () => {
  it("docs/configuration.md describes every setting", () => {
    for (const { name } of Object.values(settings)) assert.include(documentation, `\`${name}\``)
  })
})
