/**
 * `npm run test:clients`: clients of other projects in flows, first against Synapse and then against Greenroom. `test/clients/README.md`
 * describes the requirements and how to add a flow.
 *
 *     npm run test:clients                                  all clients, room versions 11 and 12
 *     npm run test:clients -- matrix-js-sdk                 some of them
 *     npm run test:clients -- --room-version 12             one room version
 *     npm run test:clients -- --server synapse              the control only
 *     npm run test:clients -- --control failures            the control only if Greenroom fails, afterwards
 *     npm run test:clients -- --minutes 6                   what would take longer fails
 *     npm run test:clients -- --report counts.json          writes how many steps passed and failed
 *
 * With `GREENROOM_TEST_NODES=3` Greenroom is three nodes behind one address, and each request goes to the next one.
 *
 * Exit code 1: Greenroom fails if Synapse passes, or nothing was run. Exit code 2: only the control fails.
 */
import { existsSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { type Recorder, withRecorder } from "../support/AnswerCheck.ts"
import { readSpecification, type Specification } from "../support/Specification.ts"
import { install as installSynapse } from "../support/Synapse.ts"
import {
  browserPath,
  type Flow,
  flows,
  installGoClients,
  installJavaScriptClients,
  installPythonClients,
  installRustClients,
  keep,
  logs,
  nameOf,
  runFlow,
  type Step
} from "./Flow.ts"
import { judge, type Run, table } from "./Report.ts"
import { type Server, withGreenroom, withSynapse } from "./Server.ts"

const print = (text: string) => process.stdout.write(`${text}\n`)

const arguments_ = parseArgs({
  allowPositionals: true,
  options: {
    "room-version": { type: "string", multiple: true, default: ["11", "12"] },
    server: { type: "string", multiple: true, default: ["synapse", "greenroom"] },
    control: { type: "string", default: "always" },
    minutes: { type: "string", default: "60" },
    report: { type: "string" }
  }
})

/** How many clients run at the same time. */
const atOnce = 2

const chosen = flows.filter(({ client, onlyByName }) =>
  arguments_.positionals.length === 0 ? onlyByName !== true : arguments_.positionals.includes(client)
)

/** The interpreter that has Synapse, or undefined without Python. */
const python = async (): Promise<string | undefined> => {
  try {
    await installPythonClients()
    return await installSynapse()
  } catch (error) {
    print(`No control and no clients in Python: ${error instanceof Error ? error.message : error}`)
    return undefined
  }
}

/** Whether the flows in a compiled language can run. */
const canBuild = async (language: "go" | "rust", name: string, install: () => Promise<unknown>): Promise<boolean> => {
  if (!chosen.some((flow) => flow.language === language)) return false
  try {
    await install()
    return true
  } catch (error) {
    print(`No clients in ${name}: ${error instanceof Error ? error.message : error}`)
    return false
  }
}

const hasBrowser = (): boolean => {
  const found = existsSync(browserPath)
  if (!found && chosen.some(({ browser }) => browser)) {
    print(`No clients in a browser: there is no ${browserPath} (Debian: apt-get install chromium)`)
  }
  return found
}

const specificationOf = async (): Promise<Specification | undefined> => {
  const directory =
    process.env.MATRIX_SPEC ?? fileURLToPath(new URL("../../../shared/matrix-spec/data", import.meta.url))
  if (existsSync(directory)) return await readSpecification(directory)
  print(`Answers are not checked against the specification: there is no ${directory} (MATRIX_SPEC names another place)`)
  return undefined
}

/** Answers of a flow that do not fit the specification are one failed step. */
const answersStep = (problems: ReadonlyArray<string>): Step =>
  problems.length === 0
    ? { name: "answers", ok: true }
    : { name: "answers", ok: false, error: problems.map((problem) => `\n    ${problem}`).join("") }

/** The end of the run, in ms of `performance.now()`. */
const deadline = Number(arguments_.values.minutes) * 60_000

const runOne = async (flow: Flow, server: Server, specification: Specification | undefined): Promise<Run> => {
  const run = async (at: Server, recorder?: Recorder): Promise<Run> => {
    const found = await runFlow(flow, at, deadline - performance.now())
    const recorded = recorder?.take()
    if (recorded !== undefined) await keep(`${nameOf(flow, server)}.requests`, recorded.requests)
    const steps = recorded === undefined ? found : [...found, answersStep(recorded.problems)]
    const failed = steps.filter(({ ok }) => !ok).length
    print(
      `${flow.client}, ${server.name}, room version ${server.roomVersion}: ${steps.length - failed} of ${steps.length}`
    )
    return { client: flow.client, server: server.name, roomVersion: server.roomVersion, steps }
  }
  if (specification === undefined || server.name === "synapse") return run(server)
  return withRecorder(server.url, specification, (recorder) => run({ ...server, url: recorder.url }, recorder))
}

/** Runs a flow on a server of its own if it needs one, since it may kill the server. */
const runOnItsServer = (flow: Flow, shared: Server, specification?: Specification): Promise<Run> => {
  if (shared.name === "synapse" || flow.ownServer !== true) return runOne(flow, shared, specification)
  return withGreenroom(shared.roomVersion, (own) => runOne(flow, own, specification))
}

/** Runs several flows at the same time, since clients mostly wait. */
const runAll = async (
  flows: ReadonlyArray<Flow>,
  server: Server,
  specification?: Specification
): Promise<ReadonlyArray<Run>> => {
  const waiting = [...flows]
  const runs: Array<Run> = []
  const work = async () => {
    for (let flow = waiting.shift(); flow !== undefined; flow = waiting.shift()) {
      runs.push(await runOnItsServer(flow, server, specification))
    }
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  return flows.flatMap(({ client }) => runs.filter((run) => run.client === client))
}

const failedIn = (runs: ReadonlyArray<Run>, flow: Flow) =>
  runs.some(({ client, steps }) => client === flow.client && steps.some(({ ok }) => !ok))

/** Repeats failed flows alone. Those that then pass are reported, so that faults that depend on the load stay visible. */
const repeatFailed = async (
  runs: ReadonlyArray<Run>,
  flows: ReadonlyArray<Flow>,
  run: (flow: Flow) => Promise<ReadonlyArray<Run>>
): Promise<ReadonlyArray<Run>> => {
  let last = runs
  for (const flow of flows.filter((flow) => failedIn(runs, flow))) {
    const again = await run(flow)
    if (failedIn(again, flow)) continue
    const steps = runs.flatMap((entry) => (entry.client === flow.client ? entry.steps.filter(({ ok }) => !ok) : []))
    print(`${flow.client} passed only alone: ${steps.map(({ error, name }) => `${name}: ${error}`).join("; ")}`)
    last = [...last.filter(({ client }) => client !== flow.client), ...again]
  }
  return last
}

const runVersion = async (
  version: string,
  flows: ReadonlyArray<Flow>,
  interpreter: string | undefined,
  specification: Specification | undefined
): Promise<ReadonlyArray<Run>> => {
  const { control, server } = arguments_.values
  const onSynapse = async (flows: ReadonlyArray<Flow>) =>
    interpreter === undefined || flows.length === 0 || !server.includes("synapse")
      ? []
      : await withSynapse(interpreter, version, (at) => runAll(flows, at))
  const first = control === "always" ? await onSynapse(flows) : []
  const onGreenroom = (flows: ReadonlyArray<Flow>) =>
    withGreenroom(version, ({ operator: _, ...at }) => runAll(flows, at, specification))
  const runs = server.includes("greenroom")
    ? await repeatFailed(await onGreenroom(flows), flows, (flow) => onGreenroom([flow]))
    : []
  const last = control === "always" ? [] : await onSynapse(flows.filter((flow) => failedIn(runs, flow)))
  return [...first, ...last, ...runs]
}

const main = async (): Promise<number> => {
  await installJavaScriptClients()
  const interpreter = await python()
  const withGo = await canBuild("go", "Go", installGoClients)
  const withRust = await canBuild("rust", "Rust", installRustClients)
  const withBrowser = hasBrowser()
  const possible = chosen.filter(
    ({ browser, language }) =>
      (interpreter !== undefined || language !== "python") &&
      (withGo || language !== "go") &&
      (withRust || language !== "rust") &&
      (withBrowser || browser !== true)
  )
  const specification = await specificationOf()
  const runs: Array<Run> = []
  for (const version of arguments_.values["room-version"]) {
    runs.push(...(await runVersion(version, possible, interpreter, specification)))
  }
  if (runs.length === 0) {
    print(`Nothing was run. Clients: ${flows.map(({ client }) => client).join(", ")}`)
    return 1
  }
  const { failures, faults, passed } = judge(runs)
  print(`\n${table(runs)}\n`)
  if (faults.length > 0) print(`The control fails:\n${faults.join("\n")}\n`)
  if (failures.length > 0) print(`Greenroom fails:\n${failures.join("\n")}\n`)
  print(`Output of the clients: ${logs}`)
  print(`${passed} passed, ${failures.length} failed`)
  if (arguments_.values.report !== undefined) {
    await writeFile(arguments_.values.report, JSON.stringify({ passed, failed: failures.length }))
  }
  return failures.length > 0 ? 1 : faults.length > 0 ? 2 : 0
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1))
process.exitCode = await main()
