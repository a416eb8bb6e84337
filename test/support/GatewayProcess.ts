/** The gateway program in a process of its own, on a free port. */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as Loopback from "@greenroom/store/testing/Loopback"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect, Redacted, Schedule, type Scope } from "effect"

/** The arguments of Node with which `npm start` runs the gateway, from anywhere. */
export const npmStart = [fileURLToPath(new URL("../../build/run.mjs", import.meta.url)), "start"] as const

/** The default server name. */
export const serverName = ServerName.make("green.test")

export interface GatewayOptions {
  readonly dataDir: string
  /** Default: `green.test`. */
  readonly serverName?: ServerName
  /** Default: the embedded PostgreSQL. */
  readonly databaseUrl?: Redacted.Redacted
  /** Default: 0, which takes any free port. */
  readonly port?: number
  /** Other settings, as environment variables. */
  readonly environment?: { readonly [name: string]: string }
  /** The file of the program. Default: the gateway of this repository, as `npm start` runs it. */
  readonly program?: string
  /** A command that runs the program, such as `ip netns exec name`. */
  readonly runBy?: ReadonlyArray<string>
}

export interface GatewayProcess {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** The output so far. */
  readonly output: () => string
  /** SIGSTOP and SIGCONT. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** SIGKILL. */
  readonly kill: Effect.Effect<void>
  /** SIGTERM. Returns the exit code. */
  readonly stop: Effect.Effect<number | NodeJS.Signals | null>
}

/** A directory that is removed with the scope. */
export const temporaryDirectory = Loopback.temporaryDirectory("e2e")

/** No rate limits. */
const unlimited = Object.fromEntries(
  ["REGISTRATIONS", "LOGINS", "SENDS", "REQUESTS", "ANONYMOUS"].map((kind) => [`GREENROOM_RATE_LIMITS_${kind}`, "off"])
)

const spawnGateway = (options: GatewayOptions): ChildProcess => {
  const database = options.databaseUrl === undefined ? [] : ["--database-url", Redacted.value(options.databaseUrl)]
  const args = [
    "--server-name",
    options.serverName ?? serverName,
    "--port",
    `${options.port ?? 0}`,
    "--data-dir",
    options.dataDir,
    ...database
  ]
  const [command = process.execPath, ...before] = [...(options.runBy ?? []), process.execPath]
  const program = options.program === undefined ? npmStart : [options.program]
  return spawn(command, [...before, ...program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      NODE_OPTIONS: nodeOptions,
      GREENROOM_FEDERATION_PORT: "0",
      ...unlimited,
      ...options.environment
    }
  })
}

const listening = /listens on (http:\/\/[^ "]+:([0-9]+))/

/** Waits for the log line that names its address. Dies with its output if it ends instead. */
const waitUntilListening = (child: ChildProcess, output: () => string) =>
  Effect.callback<RegExpExecArray>((resume) => {
    const onData = () => {
      const found = listening.exec(output())
      if (found !== null) resume(Effect.succeed(found))
    }
    child.stdout?.on("data", onData)
    child.once("close", () => resume(Effect.die(new Error(`The gateway did not start: ${output()}`))))
    onData()
  }).pipe(
    Effect.timeoutOrElse({
      duration: "1 minute",
      orElse: () => Effect.die(new Error(`The gateway does not say that it listens: ${output()}`))
    })
  )

/** Starts the program and waits until `/health` answers 200. It stops with the scope. */
export const start: (options: GatewayOptions) => Effect.Effect<GatewayProcess, never, Scope.Scope> = Effect.fnUntraced(
  function* (options) {
    const child = yield* Effect.sync(() => spawnGateway(options))
    let output = ""
    const keep = (chunk: Buffer) => {
      output += chunk.toString()
    }
    child.stdout?.on("data", keep)
    child.stderr?.on("data", keep)
    const ended = new Promise<number | NodeJS.Signals | null>((resolve) =>
      child.once("close", (code, signal) => resolve(code ?? signal))
    )
    const end = (signal: NodeJS.Signals) =>
      Effect.promise(() => {
        child.kill(signal)
        return ended
      })
    yield* Effect.addFinalizer(() => {
      child.kill("SIGCONT")
      return end("SIGTERM")
    })
    const [, url = "", port = ""] = yield* waitUntilListening(child, () => output)
    yield* Effect.promise(() => fetch(`${url}/health`)).pipe(
      // A node of a cluster may lose its shards for a moment where the machine is slow.
      Effect.repeat({ until: ({ status }) => status === 200, schedule: Schedule.spaced("100 millis") }),
      Effect.timeoutOrElse({
        duration: "1 minute",
        orElse: () => Effect.die(new Error(`The gateway is not well: ${output}`))
      })
    )
    return {
      url,
      port: Number(port),
      pid: child.pid!,
      pause: Effect.sync(() => void child.kill("SIGSTOP")),
      resume: Effect.sync(() => void child.kill("SIGCONT")),
      output: () => output,
      kill: Effect.asVoid(end("SIGKILL")),
      stop: end("SIGTERM")
    }
  }
)
