import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"

const settings = new URL("../src/PolicySettings.ts", import.meta.url).href
const effect = import.meta.resolve("effect/Effect")

/** Reads rules as the program does, since Vitest has an `import()` of its own, and prints their answers to texts. */
const program = `
  const { readPolicy } = await import(${JSON.stringify(settings)})
  const Effect = await import(${JSON.stringify(effect)})
  const [file, ...texts] = process.argv.slice(1)
  const read = Effect.result(readPolicy({ policyRules: file, policyLists: [] }))
  const { failure, success } = await Effect.runPromise(read)
  const answers = texts.map((text) => success?.rules.map((rule) => rule({ text }) ?? ""))
  console.log(JSON.stringify(failure?.message ?? answers))
`

/** The answers of the rules in a file outside of the repository, or the error. */
const read = Effect.fnUntraced(function* (name: string, rules: string, ...texts: ReadonlyArray<string>) {
  const fileSystem = yield* FileSystem.FileSystem
  const file = `${yield* fileSystem.makeTempDirectoryScoped()}/${name}`
  yield* fileSystem.writeFileString(file, rules)
  const { stdout } = yield* Effect.promise(() =>
    promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program, file, ...texts])
  )
  return JSON.parse(stdout) as unknown
})

describe("policy.rules", () => {
  it.live("a file anywhere on the disk uses the rules of Greenroom beside its own", () =>
    Effect.gen(function* () {
      const rules = `
        import { defineRule, spam, type PolicyRule } from "@greenroom/actors/policy/PolicyRules"
        const quiet: PolicyRule = defineRule(({ text }) => (text === "HELLO" ? "Please do not shout" : undefined))
        export default [spam(/free crypto/gi), quiet]`
      assert.deepStrictEqual(yield* read("rules.mts", rules, "Free Crypto", "free crypto", "HELLO"), [
        ["The message looks like spam", ""],
        ["The message looks like spam", ""],
        ["", "Please do not shout"]
      ])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a module that exports no list of rules is refused with its name", () =>
    Effect.gen(function* () {
      const error = yield* read("rules.mjs", "export default { rule: () => undefined }")
      assert.match(String(error), /^policy\.rules: the default export of .*rules\.mjs is not a list of rules$/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
