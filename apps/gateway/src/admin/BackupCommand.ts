/**
 * `greenroom backup FILE`: a backup of the database as one file, while the server runs or not.
 */
import * as Backup from "@greenroom/store/Backup"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import { Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { configOf, databaseUrlOf } from "./Connection.ts"
import { AdminFailure, place, print, time } from "./Place.ts"
import { makeProgress, size } from "./Progress.ts"

const file = Argument.String("file").pipe(Argument.withDescription("The file to write; it must not be there yet"))

const rate = Flag.String("rate").pipe(
  Flag.withDescription("At most so many bytes a second, such as 10M, to leave the disk to the server"),
  Flag.optional
)

const units = { "": 1, k: 1e3, m: 1e6, g: 1e9 } as const

/** `10M` as bytes. */
const parseRate = Effect.fnUntraced(function* (text: string) {
  const [, number, unit = ""] = /^([0-9]{1,9})([kmg]?)$/i.exec(text) ?? []
  const bytes = Number(number) * units[unit.toLowerCase() as keyof typeof units]
  return bytes > 0
    ? bytes
    : yield* new AdminFailure({ message: "--rate must be a number of bytes, such as 500k or 10M" })
})

export const command = Command.make("backup", { ...place, file, rate }, (options) =>
  Effect.gen(function* () {
    const bytesPerSecond = Option.isNone(options.rate) ? undefined : yield* parseRate(options.rate.value)
    const config = yield* configOf(options)
    const found = yield* databaseUrlOf(config)
    const url = Option.isSome(found) ? found.value : (yield* EmbeddedPostgres.make({ dataDir: config.dataDir })).url
    const progress = makeProgress()
    const { bytes, header } = yield* Backup.backup({
      url,
      file: options.file,
      rate: bytesPerSecond,
      onProgress: progress.show
    }).pipe(Effect.ensuring(Effect.sync(progress.clear)))
    const value = { file: options.file, bytes, server_name: header.server_name, created_ts: header.created_ts }
    const sentence = `${options.file}: ${header.server_name} as of ${time(header.created_ts)}, ${size(bytes)}. Keep it secret, and copy the files of ${config.mediaDirectory ?? "data/media"} beside it.`
    yield* print(options, value, sentence)
  }).pipe(Effect.scoped)
).pipe(Command.withDescription("Write a backup of the database into a file, while the server runs or not"))
