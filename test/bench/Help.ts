/** How long `greenroom --help` of the built package takes, from the start of the process to its end. */
import { execFile, execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { atMost, type Benchmark, milliseconds } from "./Benchmark.ts"
import { median } from "./Percentiles.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))
const run = promisify(execFile)

/** How long a program of Node runs, in ms. */
const timeOf = async (args: ReadonlyArray<string>): Promise<number> => {
  const begin = performance.now()
  await run(process.execPath, args, { cwd: root })
  return performance.now() - begin
}

export const help: Benchmark = {
  name: "help",
  measures: "greenroom --help of the built package; baseline: a program of Node that does nothing",
  run: async ({ quick }) => {
    execFileSync("npx", ["tsc", "-b", "tsconfig.build.json"], { cwd: root, stdio: "ignore" })
    const [helps, nothings]: [Array<number>, Array<number>] = [[], []]
    for (let round = 0; round < (quick ? 1 : 15); round++) {
      helps.push(await timeOf(["apps/gateway/dist/admin/main.js", "--help"]))
      nothings.push(await timeOf(["--eval", "0"]))
    }
    const time = median(helps)
    return [
      {
        what: "greenroom --help",
        value: milliseconds(time),
        baseline: milliseconds(median(nothings)),
        target: atMost(time, 300, " ms")
      }
    ]
  }
}
