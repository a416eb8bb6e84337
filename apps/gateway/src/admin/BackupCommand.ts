/**
 * `greenroom backup FILE`: a backup of the database and the uploaded files as one file, while the server runs or not. Files in a
 * bucket are not part of it: use the tools of the bucket.
 */
import { readFile } from "@greenroom/actors/media/BackupFiles"
import { plural } from "@greenroom/protocol/Plural"
import * as Backup from "@greenroom/store/Backup"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { configOf, databaseUrlOf, requireDatabase } from "./CommandConfig.ts"
import { commandOptions } from "./CommandOptions.ts"
import { AdminFailure, print, time } from "./CommandOutput.ts"
import { bucketOf, mediaDirectoryOf, mediaFiles } from "./MediaLocation.ts"
import { makeProgress, size } from "./Progress.ts"

const file = Argument.String("file").pipe(Argument.withDescription("The file to write, which must not exist"))

const rate = Flag.String("rate").pipe(
  Flag.withDescription("Limit the bytes read per second, such as 10M, to leave time of the disk to the server"),
  Flag.optional
)

const units = { "": 1, k: 1e3, m: 1e6, g: 1e9 } as const

/** The number of bytes of a text such as `10M`. */
const parseRate = Effect.fnUntraced(function* (text: string) {
  const [, number, unit = ""] = /^([0-9]{1,9})([kmg]?)$/i.exec(text) ?? []
  const bytes = Number(number) * units[unit.toLowerCase() as keyof typeof units]
  return bytes > 0
    ? bytes
    : yield* new AdminFailure({ message: "--rate must be a number of bytes, such as 500k or 10M" })
})

const withoutFiles = Flag.Boolean("without-files").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Back up the database alone, not the uploaded files")
)

/** A note for the operator about the uploaded files. */
const aboutFiles = (report: Backup.BackupReport, config: GatewayConfig): string => {
  const bucket = bucketOf(config)
  if (bucket !== undefined) return `Uploaded files are not in it: back up the bucket ${bucket} after it.`
  if (report.header.files !== true) return `Uploaded files are not in it: copy ${mediaDirectoryOf(config)} after it.`
  const { damaged, fileBytes, files, missing } = report
  return [
    `It has ${plural(files, "uploaded file")}, ${size(fileBytes)}.`,
    ...(missing === 0
      ? []
      : [`Missing in ${mediaDirectoryOf(config)}: ${plural(missing, "file")} that the database names.`]),
    ...(damaged === 0
      ? []
      : [`Damaged in ${mediaDirectoryOf(config)}, and left out by restore: ${plural(damaged, "file")}.`])
  ].join(" ")
}

export const command = Command.make("backup", { ...commandOptions, file, rate, withoutFiles }, (options) =>
  Effect.gen(function* () {
    const bytesPerSecond = Option.isNone(options.rate) ? undefined : yield* parseRate(options.rate.value)
    const config = yield* configOf(options)
    yield* requireDatabase(config)
    const found = yield* databaseUrlOf(config)
    const url = Option.isSome(found) ? found.value : (yield* EmbeddedPostgres.make({ dataDir: config.dataDir })).url
    const withFiles = !options.withoutFiles && bucketOf(config) === undefined
    const progress = makeProgress()
    const report = yield* Backup.backup({
      url,
      file: options.file,
      rate: bytesPerSecond,
      readFile: withFiles ? yield* readFile.pipe(Effect.provide(mediaFiles(config))) : undefined,
      onProgress: progress.show
    }).pipe(Effect.ensuring(Effect.sync(progress.clear)))
    const { bytes, damaged, fileBytes, files, header, missing } = report
    const value = {
      file: options.file,
      bytes,
      server_name: header.server_name,
      created_ts: header.created_ts,
      files: withFiles ? { count: files, bytes: fileBytes, missing, damaged } : null
    }
    const sentence = `${options.file}: ${header.server_name} as of ${time(header.created_ts)}, ${size(bytes)}. Keep it secret. ${aboutFiles(report, config)}`
    yield* print(options, value, sentence)
  }).pipe(Effect.scoped)
).pipe(Command.withDescription("Write a backup into a file, whether the server runs or not"))
