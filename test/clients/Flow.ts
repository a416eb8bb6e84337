/** Flows: programs that run a client of another project against a server, step by step. */
import { execFile, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { environmentDirectory, installPython } from "../support/Synapse.ts"
import { serveOperator } from "./Operator.ts"
import type { Server } from "./Server.ts"

const here = fileURLToPath(new URL(".", import.meta.url))

/** Chromium of Debian. */
export const browserPath = "/usr/bin/chromium"

/** The directory for the output of each flow. */
export const logs = fileURLToPath(new URL("../results/clients/", import.meta.url))

export interface Step {
  readonly name: string
  readonly ok: boolean
  readonly error?: string
}

export interface Flow {
  /** Name of the client. */
  readonly client: string
  readonly language: "javascript" | "python" | "go" | "rust"
  /** A file in `flows`; for Go and Rust a folder. */
  readonly program: string
  /** Whether it needs {@link browserPath}. */
  readonly browser?: boolean
  /** Whether it has a Greenroom of its own, which it may kill. */
  readonly ownServer?: boolean
  /** Whether it runs only by name, since its first build takes many minutes. */
  readonly onlyByName?: boolean
}

export const flows: ReadonlyArray<Flow> = [
  { client: "matrix-js-sdk", language: "javascript", program: "matrix-js-sdk.mjs" },
  { client: "js-sdk-crypto", language: "javascript", program: "matrix-js-sdk-crypto.mjs", ownServer: true },
  { client: "sliding-sync", language: "javascript", program: "matrix-js-sdk-sliding.mjs" },
  { client: "matrix-bot-sdk", language: "javascript", program: "matrix-bot-sdk.mjs" },
  { client: "matrix-nio", language: "python", program: "matrix_nio.py" },
  { client: "matrix-commander", language: "python", program: "matrix_commander.py" },
  { client: "mautrix", language: "python", program: "mautrix_python.py" },
  { client: "mautrix-go", language: "go", program: "mautrix-go" },
  { client: "hydrogen", language: "javascript", program: "hydrogen.mjs", browser: true },
  {
    client: "matrix-rust-sdk",
    language: "rust",
    program: "matrix-rust-sdk",
    ownServer: true,
    onlyByName: true
  }
]

const pythonPackages = ["matrix-nio==0.26.0", "matrix-commander==8.0.6", "mautrix==0.21.1"]

export const installPythonClients = (): Promise<string> => installPython("clients", pythonPackages)

export const installJavaScriptClients = async (): Promise<void> => {
  const lock = await fs.readFile(path.join(here, "package-lock.json"), "utf8")
  const marker = path.join(here, "node_modules", ".installed.json")
  if ((await fs.readFile(marker, "utf8").catch(() => "")) === lock) return
  await promisify(execFile)("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here, maxBuffer: 1 << 26 })
  await fs.writeFile(marker, lock)
}

/** The built program of a flow in Go. */
const builtGo = ({ program }: Flow): string => path.join(environmentDirectory("go-clients"), program)

/** Builds the flows in Go, with encryption in Go and not in C. Rejects without Go. */
export const installGoClients = async (): Promise<void> => {
  for (const flow of flows) {
    if (flow.language !== "go") continue
    const cwd = path.join(here, "flows", flow.program)
    const args = ["build", "-mod=readonly", "-tags", "goolm", "-o", builtGo(flow), "."]
    await promisify(execFile)("go", args, { cwd, env: { ...process.env, CGO_ENABLED: "0" } })
  }
}

/** The folder in which a flow in Rust is built. */
const builtRust = ({ program }: Flow): string => path.join(environmentDirectory("rust-clients"), program)

/** Builds the flows in Rust. Rejects without cargo. */
export const installRustClients = async (): Promise<void> => {
  for (const flow of flows) {
    if (flow.language !== "rust") continue
    const cwd = path.join(here, "flows", flow.program)
    const args = ["build", "--locked", "--quiet", "--target-dir", builtRust(flow)]
    await promisify(execFile)("cargo", args, { cwd, maxBuffer: 1 << 26 })
  }
}

/** The program, and the arguments before those that every flow has. */
const commandOf = (flow: Flow): readonly [string, ReadonlyArray<string>] => {
  const file = path.join(here, "flows", flow.program)
  switch (flow.language) {
    case "javascript":
      return [process.execPath, [file]]
    case "python":
      return [path.join(environmentDirectory("clients"), "bin", "python"), [file]]
    case "go":
      return [builtGo(flow), []]
    case "rust":
      return [path.join(builtRust(flow), "debug", flow.program), []]
  }
}

/** The time limit of a flow, in milliseconds. */
const limit = 300_000

/** The name of the files that a flow leaves. */
export const nameOf = (flow: Flow, server: Server): string => `${flow.client}-${server.name}-${server.roomVersion}`

/** Writes lines to a file in {@link logs}. */
export const keep = async (name: string, lines: ReadonlyArray<string>): Promise<void> => {
  await fs.mkdir(logs, { recursive: true })
  await fs.writeFile(path.join(logs, name), lines.join("\n"))
}

const stepPrefix = "STEP "

/**
 * Runs a flow to its end. A flow that ends with an error, or too late, has a failed step `end`.
 *
 * @param timeLeft How long it may take at most, in milliseconds.
 */
export const runFlow = async (flow: Flow, server: Server, timeLeft: number): Promise<ReadonlyArray<Step>> => {
  if (timeLeft <= 0) return [{ name: "end", ok: false, error: "no time was left to run this client" }]
  const [program, first] = commandOf(flow)
  const args = [...first, "--url", server.url, "--server-name", server.serverName, "--room-version", server.roomVersion]
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    timeout: Math.min(limit, Math.ceil(timeLeft))
  })
  serveOperator(child, server.operator)
  const steps: Array<Step> = []
  const log: Array<string> = []
  createInterface(child.stdout!).on("line", (line) => {
    log.push(line)
    if (line.startsWith(stepPrefix)) steps.push(JSON.parse(line.slice(stepPrefix.length)))
  })
  createInterface(child.stderr!).on("line", (line) => log.push(line))
  const code = await new Promise((resolve) => child.once("close", (code, signal) => resolve(code ?? signal)))
  if (code !== 0) steps.push({ name: "end", ok: false, error: `${code}: ${log.at(-1) ?? ""}` })
  await keep(`${nameOf(flow, server)}.log`, log)
  return steps
}
