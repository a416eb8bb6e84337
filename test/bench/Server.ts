/**
 * The gateway as an operator runs it, in a process of its own, on a fresh data directory with the PostgreSQL that comes
 * with it, which syncs every commit to the disk. Only the rate limits are switched off.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const root = new URL("../../", import.meta.url)
const { scripts } = JSON.parse(await fs.readFile(new URL("package.json", root), "utf8")) as {
  scripts: { start: string }
}
/** The arguments of `npm start` after `exec node`: options of Node, and the program. */
const start = scripts.start.replace(/^exec node /, "").split(" ")

const unlimited = Object.fromEntries(
  ["REGISTRATIONS", "LOGINS", "SENDS", "REQUESTS", "ANONYMOUS"].map((kind) => [`GREENROOM_RATE_LIMITS_${kind}`, "off"])
)

export interface ServerOptions {
  /** An earlier server's, which is ended then. Without it: a fresh one, which goes with the server. */
  readonly dataDir?: string
  readonly serverName?: string
  /** 0, if absent, takes any free port. */
  readonly federationPort?: number
  /** Options of Node. */
  readonly nodeOptions?: ReadonlyArray<string>
  readonly environment?: { readonly [name: string]: string }
}

export interface Server extends AsyncDisposable {
  readonly url: string
  readonly pid: number
  readonly dataDir: string
  /** The output so far. */
  readonly output: () => string
}

/** A temporary directory that other accounts can traverse, since PostgreSQL does not run as root. */
export const temporaryDirectory = async (): Promise<string> => {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-bench-"))
  await fs.chmod(directory, 0o711)
  return directory
}

export const removeDirectory = (directory: string): Promise<void> => fs.rm(directory, { recursive: true, force: true })

/** Options of Node for the gateway, such as `--cpu-prof`. */
const profiling = (process.env.GREENROOM_BENCH_NODE_OPTIONS ?? "").split(" ").filter((option) => option !== "")

const listening = /listens on (http:\/\/[^ "]+:[0-9]+)/

const waitUntilListening = (child: ChildProcess, output: () => string): Promise<string> =>
  new Promise((resolve, reject) => {
    const onData = () => {
      const url = listening.exec(output())?.[1]
      if (url !== undefined) resolve(url)
    }
    child.stdout?.on("data", onData)
    child.once("close", () => reject(new Error(`The gateway did not start: ${output()}`)))
  })

/** Starts a gateway; disposing of it ends it. */
export const startServer = async (options: ServerOptions = {}): Promise<Server> => {
  const dataDir = options.dataDir ?? (await temporaryDirectory())
  const { federationPort = 0, nodeOptions = [], serverName = "bench.test" } = options
  const ports = ["--port", "0", "--federation-port", String(federationPort)]
  const args = [...start, "--server-name", serverName, ...ports, "--data-dir", dataDir]
  const child = spawn(process.execPath, [...profiling, ...nodeOptions, ...args], {
    cwd: fileURLToPath(root),
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...unlimited, ...options.environment }
  })
  let output = ""
  const keep = (chunk: Buffer) => {
    output += chunk.toString()
  }
  child.stdout.on("data", keep)
  child.stderr.on("data", keep)
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const dispose = async () => {
    child.kill("SIGTERM")
    await ended
    if (options.dataDir === undefined) await removeDirectory(dataDir)
  }
  try {
    const url = await waitUntilListening(child, () => output)
    return { url, pid: child.pid!, dataDir, output: () => output, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** The resident memory of a process, in KB. */
export const residentMemory = (pid: number): number =>
  Number(execFileSync("ps", ["-o", "rss=", "-p", String(pid)]).toString())
