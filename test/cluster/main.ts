/**
 * `npm run test:cluster -- --minutes 10 --seed 7`: the mixed load of `MixedLoad.test.ts` for some minutes, with faults at random. In
 * network namespaces where they can be made. The same seed makes the same faults.
 */
import { spawnSync } from "node:child_process"
import { parseArgs } from "node:util"

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "5" }, seed: { type: "string", default: `${Date.now() % 1_000}` } }
})
process.stdout.write(`Seed ${values.seed}\n`)
const { status } = spawnSync(
  "npx",
  ["vitest", "run", "test/cluster/MixedLoad.test.ts", "--maxWorkers=1", "--silent=false"],
  {
    stdio: "inherit",
    env: { ...process.env, GREENROOM_TEST_MINUTES: values.minutes, GREENROOM_TEST_SEED: values.seed }
  }
)
process.exitCode = status ?? 1
