#!/usr/bin/env node
/**
 * The program that an operator administers accounts with: `npm run greenroom -- --help`.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Administration } from "@greenroom/actors/account/Administration"
import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { Passwords } from "@greenroom/actors/account/Passwords"
import { MediaKeeping } from "@greenroom/actors/media/MediaKeeping"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { runProgram } from "@greenroom/gateway/RunProgram"
import { mendJsonParse } from "@greenroom/protocol/JsonParse"
import { AccountStore } from "@greenroom/store/AccountStore"
import * as Database from "@greenroom/store/Database"
import { MediaStore } from "@greenroom/store/MediaStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Layer, Option, References } from "effect"
import { Command } from "effect/cli"
import * as CommandLine from "../CommandLine.ts"
import { readConfig } from "../ConfigSources.ts"
import { toLoginOptions } from "../LoginSettings.ts"
import { describeFailure } from "../StartFailure.ts"
import { adminCommand } from "./AdminCommands.ts"
import type { Place } from "./Place.ts"

mendJsonParse()

/** The stores of the database that the settings name, or that a running gateway has in the data directory. */
const connect = (place: Place) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const { config, dataDir, databaseUrl, serverName } = place
      const read = yield* readConfig({
        options: { dataDir, databaseUrl, serverName },
        configFile: config,
        environment: process.env
      })
      const running = read.databaseUrl === undefined ? yield* findRunningPostgres(read.dataDir) : Option.none()
      const database = Option.isSome(running)
        ? { databaseUrl: running.value, dataDir: read.dataDir, maxConnections: 2 }
        : { databaseUrl: read.databaseUrl, dataDir: read.dataDir, maxConnections: 2 }
      return Layer.mergeAll(
        Administration.layerOnStores,
        SigningKeys.layer(read.serverName),
        MediaKeeping.layerOnStores
      ).pipe(
        Layer.provide([
          AccountStore.layer,
          UserIdentityStore.layer,
          RegistrationTokenStore.layer,
          MediaStore.layer,
          Passwords.layer
        ]),
        Layer.provide(ServerSettings.layer(read.serverName)),
        Layer.provide(Layer.succeed(LoginConfig, toLoginOptions(read))),
        Layer.provide(Layer.succeed(HomeServerConfig, { serverName: read.serverName, dataDir: read.dataDir })),
        Layer.provide(Database.layer(database))
      )
    })
  ).pipe(Layer.provide(NodeServices.layer))

runProgram(
  CommandLine.name,
  Command.runWith(adminCommand(connect), { version: CommandLine.version })(process.argv.slice(2)).pipe(
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.provide([CommandLine.layer, NodeServices.layer])
  ),
  describeFailure
)
