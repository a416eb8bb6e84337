/**
 * `greenroom restore FILE`: restores a backup into an empty database, or into a data directory without one. Its uploaded files are
 * written to the configured store.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fileTarget } from "@greenroom/actors/media/BackupFiles"
import { plural } from "@greenroom/protocol/Plural"
import { attempt, BackupFailed, type BackupHeader } from "@greenroom/store/Backup"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import * as Restore from "@greenroom/store/Restore"
import { beginNotes, type RestoreNotes, readUnfinished } from "@greenroom/store/UnfinishedRestore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { configOf } from "./CommandConfig.ts"
import { commandOptions } from "./CommandOptions.ts"
import { print, time } from "./CommandOutput.ts"
import { mediaFiles } from "./MediaLocation.ts"
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

const exists = (directory: string) =>
  Effect.promise(() =>
    fs.stat(directory).then(
      () => true,
      () => false
    )
  )

type RestoreInto = (
  url: EmbeddedPostgres["Service"]["url"],
  notes: RestoreNotes
) => Effect.Effect<Restore.RestoreReport, BackupFailed>

const notesOf = (dataDir: string, embedded: boolean) =>
  attempt(`${dataDir} cannot be written`, () => beginNotes(dataDir, embedded))

/**
 * Restores into a new embedded PostgreSQL, which is removed if the restore fails. One that an interrupted restore has created is used
 * again.
 */
const restoreEmbedded = Effect.fnUntraced(function* (dataDir: string, restore: RestoreInto) {
  const directory = path.join(dataDir, "postgres")
  const left = yield* attempt(`${dataDir} cannot be read`, () => readUnfinished(dataDir))
  const isThere = yield* exists(directory)
  if (isThere && left?.embedded !== true) {
    return yield* new BackupFailed({
      message: `${directory} is there already: stop the server, move its data away, and restore then. Nothing was restored.`
    })
  }
  const notes = yield* notesOf(dataDir, true)
  const remove = Effect.promise(() => fs.rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  return yield* Effect.scoped(
    Effect.flatMap(EmbeddedPostgres.make({ dataDir }), ({ url }) => restore(url, notes))
  ).pipe(Effect.onError(() => (isThere ? Effect.void : Effect.andThen(remove, Effect.promise(notes.end)))))
})

/** The outcome for the uploaded files, and the remaining work. */
const aboutFiles = (header: BackupHeader, { damaged, files }: Restore.RestoreReport): string => {
  if (header.files !== true) return "The backup has no uploaded files: put them back, and start the server."
  const lost = damaged === 0 ? "" : ` Damaged when the backup was made, and missing: ${plural(damaged, "file")}.`
  return `It has ${plural(files, "uploaded file")}.${lost} Start the server.`
}

export const command = Command.make("restore", { ...commandOptions, file }, (options) =>
  Effect.gen(function* () {
    const config = yield* configOf(options)
    const progress = makeProgress()
    const shown = Effect.ensuring(Effect.sync(progress.clear))
    const header = yield* Restore.checkBackup(options.file, progress.show).pipe(shown)
    yield* checkServer(header, config)
    const files = yield* fileTarget
    const restore: RestoreInto = (url, notes) =>
      Restore.restore(header, { url, notes, file: options.file, files, onProgress: progress.show }).pipe(shown)
    const { databaseUrl } = config
    const report = yield* databaseUrl === undefined
      ? restoreEmbedded(config.dataDir, restore)
      : Effect.flatMap(notesOf(config.dataDir, false), (notes) => restore(databaseUrl, notes))
    const value = {
      server_name: header.server_name,
      created_ts: header.created_ts,
      version: header.migration,
      files: header.files === true ? { count: report.files, damaged: report.damaged } : null
    }
    const sentence = `${header.server_name} is restored as of ${time(header.created_ts)}. ${aboutFiles(header, report)}`
    yield* print(options, value, sentence)
  }).pipe(Effect.provide(Layer.unwrap(Effect.map(configOf(options), mediaFiles))))
).pipe(Command.withDescription("Restore a backup into an empty database, or a data directory without one"))
