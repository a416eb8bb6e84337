/**
 * `greenroom restore FILE`: a backup into a place where nothing is: an empty database, or a data directory without one.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { BackupFailed, type BackupHeader } from "@greenroom/store/Backup"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import * as Restore from "@greenroom/store/Restore"
import { Effect } from "effect"
import { Argument, Command } from "effect/cli"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { configOf } from "./Connection.ts"
import { place, print, time } from "./Place.ts"
import { makeProgress } from "./Progress.ts"

const file = Argument.String("file").pipe(Argument.withDescription("A file that `greenroom backup` has written"))

const checkServer = ({ server_name }: BackupHeader, { serverName }: GatewayConfig) =>
  server_name === serverName
    ? Effect.void
    : Effect.fail(
        new BackupFailed({
          message: `The backup is of the server ${server_name}, and the settings say ${serverName} (--server-name). Nothing was restored.`
        })
      )

/** The embedded PostgreSQL, made for the backup: it goes again if the restoration fails. */
const restoreEmbedded = Effect.fnUntraced(function* (
  dataDir: string,
  restore: (url: EmbeddedPostgres["Service"]["url"]) => Effect.Effect<void, BackupFailed>
) {
  const directory = path.join(dataDir, "postgres")
  const isThere = yield* Effect.promise(() =>
    fs.stat(directory).then(
      () => true,
      () => false
    )
  )
  if (isThere) {
    return yield* new BackupFailed({
      message: `${directory} is there already: stop the server, move its data away, and restore then. Nothing was restored.`
    })
  }
  yield* Effect.scoped(Effect.flatMap(EmbeddedPostgres.make({ dataDir }), ({ url }) => restore(url))).pipe(
    Effect.onError(() => Effect.promise(() => fs.rm(directory, { recursive: true, force: true, maxRetries: 5 })))
  )
})

export const command = Command.make("restore", { ...place, file }, (options) =>
  Effect.gen(function* () {
    const config = yield* configOf(options)
    const header = yield* Restore.checkBackup(options.file)
    yield* checkServer(header, config)
    const progress = makeProgress()
    const restore = (url: EmbeddedPostgres["Service"]["url"]) =>
      Effect.ensuring(
        Restore.restore(header, { url, file: options.file, onProgress: progress.show }),
        Effect.sync(progress.clear)
      )
    yield* config.databaseUrl === undefined ? restoreEmbedded(config.dataDir, restore) : restore(config.databaseUrl)
    const value = { server_name: header.server_name, created_ts: header.created_ts, version: header.migration }
    const sentence = `${header.server_name} is restored as of ${time(header.created_ts)}. Put its files back, and start the server.`
    yield* print(options, value, sentence)
  })
).pipe(Command.withDescription("Restore a backup into an empty database, or a data directory without one"))
