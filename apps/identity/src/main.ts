#!/usr/bin/env node
/**
 * The identity server program.
 */
import "@greenroom/gateway/NodeVersion"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { ListenError } from "@greenroom/gateway/ListenError"
import { logging } from "@greenroom/gateway/Logging"
import { checkListen } from "@greenroom/gateway/NodeServer"
import { runProgram } from "@greenroom/gateway/RunProgram"
import type { Sources } from "@greenroom/gateway/SettingSources"
import * as SettingsCommand from "@greenroom/gateway/SettingsCommand"
import { mendJsonParse } from "@greenroom/protocol/JsonParse"
import { encodeBase64, exportVerifyKey, type SigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { DatabaseUnreachable } from "@greenroom/store/Database"
import { DatabaseUnsuitable } from "@greenroom/store/DatabaseRequirements"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Cause, Console, Effect, Layer, Option, References } from "effect"
import { CliError } from "effect/cli"
import { type IdentityConfig, settings } from "./IdentityConfig.ts"
import * as IdentityDatabase from "./IdentityDatabase.ts"
import { IdentityHttp } from "./IdentityHttp.ts"
import * as IdentityServer from "./IdentityServer.ts"
import { readConfig, toServerOptions } from "./ReadConfig.ts"
import { version } from "./Version.ts"

mendJsonParse()

const name = "greenroom-identity"

/** A key in the form of the configuration of peers. */
const describeKey = (key: SigningKey): string => `${key.keyId} ${encodeBase64(exportVerifyKey(verifyKeyOf(key)))}`

/** Logs the address of the server, and its key for the configuration of peers. */
const announce = Layer.effectDiscard(
  Effect.gen(function* () {
    const { url } = yield* IdentityHttp
    const key = yield* SigningKeys.use(({ current }) => current)
    yield* Effect.log(`The identity server ${key.serverName} listens on ${url} (its API is described at ${url}/docs)`)
    yield* Effect.log(`It signs with ${describeKey(key)}`)
    yield* Effect.addFinalizer(() => Effect.log(`The identity server ${key.serverName} is shutting down`))
  })
)

/** Runs until the program is stopped, then shuts down in the opposite order. */
const run = Effect.fnUntraced(function* (sources: Sources) {
  const config = yield* readConfig(sources)
  const options = yield* toServerOptions(config)
  yield* checkListen(config)
  yield* announce.pipe(
    Layer.provide(IdentityServer.layer(options)),
    Layer.provide(IdentityDatabase.layer(config)),
    Layer.launch,
    Effect.provide(logging(config.logLevel))
  )
})

/** The database of the settings, or that of a running server in the data directory. */
const databaseOf = Effect.fnUntraced(function* ({ databaseUrl, dataDir }: IdentityConfig) {
  const running = databaseUrl === undefined ? yield* findRunningPostgres(dataDir) : Option.none()
  return { databaseUrl: Option.getOrElse(running, () => databaseUrl), dataDir, maxConnections: 2 }
})

/** Replaces the signing key of the server, whether the server runs or not. */
const rotateKey = Effect.fnUntraced(function* (sources: Sources) {
  const config = yield* readConfig(sources)
  const database = IdentityDatabase.layer(yield* databaseOf(config))
  const keys = Layer.mergeAll(SigningKeys.layer(config.serverName), ServerSettings.layer(config.serverName))
  yield* Effect.gen(function* () {
    const { current, rotate } = yield* SigningKeys
    const replaced = yield* current
    const key = yield* rotate
    yield* Console.log(`${key.serverName} signs with ${describeKey(key)}, a running server within a minute.`)
    yield* Console.log(
      `${replaced.keyId} stays published. Peers take what is signed once their settings name the new key.`
    )
  }).pipe(
    Effect.provide(keys.pipe(Layer.provide(database))),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )
})

/** The reason why the program did not start, in one line; undefined if nothing failed or the reason was printed already. */
const describeFailure = (cause: Cause.Cause<unknown>): string | undefined => {
  if (Cause.hasInterruptsOnly(cause)) return undefined
  const error = Cause.squash(cause)
  if (CliError.isCliError(error)) return undefined
  if (error instanceof ListenError) return `--port: ${error.message}`
  if (error instanceof DatabaseUnreachable || error instanceof DatabaseUnsuitable) {
    return `--database-url: ${error.message}`
  }
  return error instanceof Error ? error.message : String(error)
}

const command = {
  name,
  description: "A Matrix identity server. Without a subcommand it starts.",
  version,
  settings,
  manual: "docs/identity.md"
}

const tasks = [{ name: "rotate-key", description: "Sign with a new key from now on", run: rotateKey }]

runProgram(
  name,
  SettingsCommand.runCommandLine(command, process.argv.slice(2), process.env, run, tasks).pipe(
    Effect.provide([SettingsCommand.layer(name), NodeServices.layer])
  ),
  describeFailure
)
