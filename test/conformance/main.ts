/**
 * `npm run test:conformance`: Complement, the public conformance suite of Matrix, against Greenroom as processes on loopback.
 *
 *     git clone https://github.com/matrix-org/complement ../complement
 *     npm run test:conformance                                    the client API and federation
 *     npm run test:conformance -- csapi --run 'TestSync|TestTyping'   one package, some of its tests
 *     npm run test:conformance -- --complement DIRECTORY          a clone elsewhere
 *     npm run test:conformance -- --keep DIRECTORY                logs of the servers and of the tests stay there
 *     npm run test:conformance -- --sytest ../sytest              Sytest instead, the older suite in Perl, see `sytest.ts`
 *     npm run test:conformance -- --sytest ../sytest tests/31sync/02sync.pl   one of its files
 *     npm run test:conformance -- --nodes 3                       the first home server is three nodes, each request goes to the next one
 *
 * Needs Go and a clone of Complement. Where either is missing, it prints this and exits with 0.
 * `test/conformance/deployment` takes the place of Docker. Exit code 1: a test failed that `knownFailures.ts` does not name.
 */
import { spawn, spawnSync } from "node:child_process"
import { createWriteStream, existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { knownFailures } from "./knownFailures.ts"
import { runSytest } from "./sytest.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    complement: { type: "string", default: fileURLToPath(new URL("../../../complement", import.meta.url)) },
    run: { type: "string", default: "." },
    keep: { type: "string" },
    sytest: { type: "string" },
    nodes: { type: "string", default: "1" },
    "time-out": { type: "string", default: "40m" }
  }
})

const here = fileURLToPath(new URL(".", import.meta.url))
const program = fileURLToPath(new URL("../../apps/gateway/src/main.ts", import.meta.url))
/** For the first home server, where it is several nodes. */
const nodesEnvironment = {
  CONFORMANCE_NODES: values.nodes,
  CONFORMANCE_NODES_PROGRAM: fileURLToPath(new URL("./severalNodes.ts", import.meta.url))
}
const print = (text: string) => process.stdout.write(`${text}\n`)

/** Complement starts our deployment where it would ask Docker. */
const replacements = [
  ["return testPackage.OldDeploy(t, blueprint)", "return deployment.FromBlueprint(t, blueprint, testPackage.Config)"],
  ["return testPackage.Deploy(t, numServers)", "return deployment.Shared(t, numServers, testPackage.Config)"],
  ["defer testPackage.Cleanup()", "defer deployment.Cleanup(testPackage.Config)"],
  [
    `"github.com/matrix-org/complement/ct"`,
    `"github.com/matrix-org/complement/ct"\n\t"github.com/matrix-org/complement/deployment"`
  ]
] as const

/** Copies Complement and adds our deployment. */
const prepare = async (directory: string): Promise<string> => {
  const copy = path.join(directory, "complement")
  await fs.cp(values.complement, copy, { recursive: true, filter: (file) => !file.endsWith("/.git") })
  await fs.cp(path.join(here, "deployment"), path.join(copy, "deployment"), { recursive: true })
  const main = path.join(copy, "test_main.go")
  let source = await fs.readFile(main, "utf8")
  for (const [old, replacement] of replacements) {
    if (source.split(old).length !== 2) throw new Error(`${main} has no single ${old}`)
    source = source.replace(old, replacement)
  }
  await fs.writeFile(main, source)
  return copy
}

interface TestEvent {
  readonly Action: string
  readonly Package: string
  readonly Test?: string
  readonly Output?: string
}

interface Outcome {
  readonly failed: Array<string>
  readonly counts: Record<string, number>
}

/** Runs the tests of one package. The names of subtests are as Go writes them. */
const test = async (complement: string, directory: string, name: string): Promise<Outcome> => {
  const log = createWriteStream(path.join(directory, `${name}.log`))
  const folder = name === "federation" ? "./tests" : `./tests/${name}`
  const child = spawn(
    "go",
    ["test", "-json", "-v", "-count=1", `-timeout=${values["time-out"]}`, `-run=${values.run}`, folder],
    {
      cwd: complement,
      stdio: ["ignore", "pipe", "inherit"],
      env: {
        ...process.env,
        COMPLEMENT_BASE_IMAGE: "none",
        COMPLEMENT_HOSTNAME_RUNNING_COMPLEMENT: "127.0.0.1",
        COMPLEMENT_SPAWN_HS_TIMEOUT_SECS: "120",
        CONFORMANCE_NODE: process.execPath,
        CONFORMANCE_PROGRAM: program,
        ...nodesEnvironment,
        CONFORMANCE_DIRECTORY: directory,
        ...(values.keep === undefined ? {} : { CONFORMANCE_KEEP: "1" })
      }
    }
  )
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
  const outcome: Outcome = { failed: [], counts: { pass: 0, fail: 0, skip: 0 } }
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith("{")) {
      log.write(`${line}\n`)
      continue
    }
    const event = JSON.parse(line) as TestEvent
    if (event.Output !== undefined) log.write(event.Output)
    if (event.Test === undefined || outcome.counts[event.Action] === undefined) continue
    outcome.counts[event.Action]!++
    if (event.Action === "fail") outcome.failed.push(event.Test)
  }
  const code = await ended
  log.end()
  if (code !== 0 && outcome.failed.length === 0) outcome.failed.push(`(go test ended with ${code})`)
  return outcome
}

/** A known failure includes its subtests and the tests that contain it. */
const isKnown = (name: string, test: string): boolean =>
  (knownFailures[name] ?? []).some(
    ({ test: known }) => test === known || test.startsWith(`${known}/`) || known.startsWith(`${test}/`)
  )

/** A directory that PostgreSQL, which does not run as root, can enter. */
const makeDirectory = async (): Promise<string> => {
  const directory = path.resolve(values.keep ?? (await fs.mkdtemp(path.join(tmpdir(), "greenroom-conformance-"))))
  await fs.mkdir(directory, { recursive: true })
  await fs.chmod(directory, 0o711)
  return directory
}

const testWithSytest = async (sytest: string): Promise<number> => {
  const directory = await makeDirectory()
  try {
    return (await runSytest(path.resolve(sytest), directory, positionals, nodesEnvironment)) === 0 ? 0 : 1
  } finally {
    if (values.keep === undefined) await fs.rm(directory, { recursive: true, force: true })
  }
}

const main = async (): Promise<number> => {
  if (values.sytest !== undefined) return testWithSytest(values.sytest)
  if (spawnSync("go", ["version"]).error !== undefined) {
    print("Complement needs Go, which is not installed")
    return 0
  }
  if (!existsSync(path.join(values.complement, "test_main.go"))) {
    print(`No Complement in ${values.complement}: git clone https://github.com/matrix-org/complement`)
    return 0
  }
  const directory = await makeDirectory()
  const complement = await prepare(directory)
  let unexpected = 0
  try {
    for (const name of positionals.length === 0 ? ["csapi", "federation"] : positionals) {
      const { failed, counts } = await test(complement, directory, name)
      print(`${name}: ${counts.pass} passed, ${counts.fail} failed, ${counts.skip} skipped`)
      for (const test of failed) print(`  ${isKnown(name, test) ? "known  " : "FAILED "} ${test}`)
      unexpected += failed.filter((test) => !isKnown(name, test)).length
    }
  } finally {
    if (values.keep === undefined) await fs.rm(directory, { recursive: true, force: true })
  }
  return unexpected === 0 ? 0 : 1
}

process.exitCode = await main()
