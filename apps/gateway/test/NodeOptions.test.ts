import { execFileSync } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import { v8Options } from "../src/NodeOptions.ts"

const file = new URL("../src/NodeOptions.ts", import.meta.url).href
const program = `
  import { useV8Options } from ${JSON.stringify(file)}
  useV8Options()
  console.log(JSON.stringify(process.execArgv.filter((option) => /^--(?!eval|input-type)/.test(option))))`

/** The options of V8 with which a program runs that was started with these. */
const run = (options: ReadonlyArray<string>, environment = ""): ReadonlyArray<string> =>
  JSON.parse(
    execFileSync(process.execPath, [...options, "--input-type=module", "--eval", program], {
      env: { NODE_OPTIONS: environment },
      encoding: "utf8"
    })
  )

describe("NodeOptions", () => {
  it("adds the options that the operator has not set", () => {
    assert.sameMembers([...run([])], [...v8Options])
    const own = ["--lazy", "--max_semi_space_size=8"]
    assert.sameMembers([...run(own)], [...own, "--no-allocation-site-pretenuring"])
    assert.sameMembers(
      [...run(["--no-lazy-feedback-allocation"], "--max-semi-space-size=32")],
      ["--no-lazy-feedback-allocation", "--no-allocation-site-pretenuring", "--no-lazy"]
    )
  })
})
