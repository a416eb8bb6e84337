/**
 * The gateway as several nodes behind one address, with the command line and the environment of one: for suites that start a program.
 * `GREENROOM_TEST_NODES` says how many. PostgreSQL is an embedded one that all nodes share.
 */
import { ServerName } from "@greenroom/protocol/Identifiers"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import { Effect, Fiber } from "effect"
import * as SeveralNodes from "../support/SeveralNodes.ts"

/** The options of the command line by their names; `--no-name` is `false`. */
const options = new Map<string, string>()
const given = process.argv.slice(2)
for (let option = given.shift(); option !== undefined; option = given.shift()) {
  const [, no, name] = /^--(no-)?(.*)$/.exec(option)!
  options.set(name!, no === undefined ? given.shift()! : "false")
}

const take = (name: string): string => {
  const value = options.get(name)
  if (value === undefined) throw new Error(`--${name} is missing`)
  options.delete(name)
  return value
}

const [dataDir, port, serverName] = [take("data-dir"), Number(take("port")), ServerName.make(take("server-name"))]
// All listen on loopback.
options.delete("host")

const environment = {
  ...Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      /^(GREENROOM_(?!TEST_)|NODE_EXTRA_CA_CERTS)/.test(name) && value !== undefined ? [[name, value]] : []
    )
  ),
  ...Object.fromEntries(
    Array.from(options, ([name, value]) => [`GREENROOM_${name.replaceAll("-", "_").toUpperCase()}`, value])
  )
}

const program = Effect.gen(function* () {
  const { url: databaseUrl } = yield* EmbeddedPostgres.make({ dataDir, settings: { max_connections: "100" } })
  const nodes = yield* SeveralNodes.start({
    dataDir,
    port,
    serverName,
    databaseUrl,
    environment,
    // The nodes end with this process, however it ends.
    runBy: ["setpriv", "--pdeathsig", "KILL"]
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => process.stdout.write(nodes.output())))
  return yield* Effect.never
}).pipe(Effect.scoped)

const running = Effect.runFork(program)
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void Effect.runPromise(Fiber.interrupt(running)).then(() => process.exit(0)))
}
running.addObserver((exit) => {
  if (exit._tag === "Failure") process.stderr.write(`${exit.cause}\n`)
  process.exitCode = 1
})
