/**
 * `npm run test:cluster -- --minutes 10 --seed 7`: runs the mixed load of `MixedLoad.test.ts` with random faults, in network namespaces if
 * they can be made. The same seed gives the same faults.
 *
 * `npm run test:cluster -- --suites`: runs the end-to-end tests against three nodes, each request at the next one, and the tests of
 * federation with three nodes as one of the home servers. File names select some.
 */
import { spawnSync } from "node:child_process"
import { parseArgs } from "node:util"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: "string", default: "5" },
    seed: { type: "string", default: `${Date.now() % 1_000}` },
    suites: { type: "boolean", default: false }
  }
})

/** The tests that start their gateways through `SeveralNodes`. */
const suites = [
  ...["Conversation", "EventStream", "Profiles", "Requests", "RoomAccess", "Client", "MatrixClient"].map(
    (name) => `test/e2e/${name}.test.ts`
  ),
  ...["Crowd", "Forks", "InviteJoin", "LostServers", "Outage", "Rooms"].map(
    (name) => `test/federation/${name}.test.ts`
  ),
  ...[
    "DraftForgedEvents",
    "DraftHostileServers",
    "ForgedEvents",
    "ForgedHistory",
    "HostileHandshakes",
    "MalformedPdus"
  ].map((name) => `test/federation/${name}.test.ts`)
]

const run = (files: ReadonlyArray<string>, environment: NodeJS.ProcessEnv) =>
  spawnSync("npx", ["vitest", "run", ...files, "--maxWorkers=1", "--silent=false"], {
    stdio: "inherit",
    env: { ...process.env, ...environment }
  }).status ?? 1

if (values.suites) {
  process.exitCode = run(positionals.length > 0 ? positionals : suites, { GREENROOM_TEST_NODES: "3" })
} else {
  process.stdout.write(`Seed ${values.seed}\n`)
  process.exitCode = run(["test/cluster/MixedLoad.test.ts"], {
    GREENROOM_TEST_MINUTES: values.minutes,
    GREENROOM_TEST_SEED: values.seed
  })
}
