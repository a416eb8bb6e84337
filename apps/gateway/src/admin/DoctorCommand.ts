/**
 * `greenroom doctor`: checks everything that a server needs, and prints a remedy for each fault. It changes nothing.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { givenOptions, settingFlags } from "@greenroom/gateway/SettingsCommand"
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { toFederationOptions } from "../FederationSettings.ts"
import { type GatewayConfig, settings } from "../GatewayConfig.ts"
import { configOf, databaseUrlOf, requireDatabase } from "./CommandConfig.ts"
import { commandOptions } from "./CommandOptions.ts"
import { AdminFailure, printAll } from "./CommandOutput.ts"
import { checkDatabase, type DatabaseState } from "./doctor/databaseChecks.ts"
import { type Finding, failure, ok, warning } from "./doctor/Finding.ts"
import { checkFederation } from "./doctor/federationChecks.ts"
import { checkMachine } from "./doctor/machineChecks.ts"

const peers = Flag.String("peer").pipe(
  Flag.withMetavar("server"),
  Flag.withDescription(
    "Another server to try to reach, such as matrix.org. May be given several times. By default those that were reached last"
  ),
  Flag.between(0, 100)
)

const databaseOf = Effect.fnUntraced(function* (config: GatewayConfig): Effect.fn.Return<DatabaseState> {
  const url = Option.getOrUndefined(yield* databaseUrlOf(config))
  if (url !== undefined) return yield* checkDatabase(url, config)
  const found = (yield* Effect.isSuccess(requireDatabase(config)))
    ? ok("database", "the embedded PostgreSQL runs with the server, which does not run")
    : warning(
        "database",
        `${path.resolve(config.dataDir)} has no database yet`,
        "The first start of the server makes one. If there should be one, name its directory with --data-dir."
      )
  return { isRunning: false, peers: [], findings: [found] }
})

const examine = Effect.fnUntraced(function* (config: GatewayConfig, others: ReadonlyArray<string>) {
  const authorities = yield* Effect.promise(() =>
    Promise.all(config.federationAuthorities.map((file) => fs.readFile(file, "utf8")))
  )
  const wrong = others.find((other) => !isServerName(other))
  if (wrong !== undefined) return yield* new AdminFailure({ message: `--peer: ${wrong} is not a server name` })
  const database = yield* databaseOf(config)
  const peers = others.length > 0 ? (others as ReadonlyArray<ServerName>) : database.peers
  const [machine, federation] = yield* Effect.all(
    [
      checkMachine(config, database.isRunning),
      checkFederation(config.serverName, peers, toFederationOptions(config, authorities))
    ],
    { concurrency: 2 }
  )
  const findings = [ok("configuration", "can be read"), ...database.findings, ...machine, ...federation]
  return findings.some(({ check }) => check === "clock") ? findings : [...findings, clockAlone()]
})

/** Neither an external database nor another server was there to compare the clock with. */
const clockAlone = () =>
  warning(
    "clock",
    `says ${new Date().toISOString()}, and could be compared with no other`,
    "Compare it yourself, or name a server to compare it with: --peer matrix.org."
  )

const describe = ({ check, found, remedy, status }: Finding): string =>
  `${status.padEnd(7)}  ${check.padEnd(13)}  ${found}${remedy === undefined ? "" : `\n${" ".repeat(24)} -> ${remedy}`}`

/** All options of the gateway: a server that was started with `--port` is looked for at that port. */
const gatewayOptions = settingFlags(settings)

export const command = Command.make("doctor", { ...gatewayOptions, ...commandOptions, peers }, (options) =>
  Effect.gen(function* () {
    const findings = yield* Effect.catch(
      Effect.flatMap(configOf(options, givenOptions(Object.keys(gatewayOptions), options)), (config) =>
        examine(config, options.peers)
      ),
      ({ message }) =>
        Effect.succeed([failure("configuration", message, "Correct the setting; docs/configuration.md describes it.")])
    )
    yield* printAll(options, findings, describe)
    const errors = findings.filter(({ status }) => status === "error").length
    if (errors > 0)
      return yield* new AdminFailure({
        message: `${plural(errors, "error")} among ${plural(findings.length, "finding")}`
      })
    if (!options.json) yield* Console.log("No failures: the server can run here.")
  })
).pipe(Command.withDescription("Check configuration, database, disk, ports, certificate, clock, DNS and federation"))
