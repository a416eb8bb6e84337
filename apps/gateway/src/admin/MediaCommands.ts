/**
 * Administration of uploaded files on the command line.
 *
 *     greenroom media list alice
 *     greenroom media quarantine mxc://example.org/SEsfnsuifSDFSSEF
 */
import { Administration } from "@greenroom/actors/account/Administration"
import { mxc } from "@greenroom/actors/media/Media"
import { MediaKeeping, parseMxc } from "@greenroom/actors/media/MediaKeeping"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { AuditStore } from "@greenroom/store/AuditStore"
import { type MediaRow, MediaStore } from "@greenroom/store/MediaStore"
import { Effect, Layer } from "effect"
import { Argument, Command } from "effect/cli"
import { administration } from "./AccountServices.ts"
import { audited } from "./Audited.ts"
import { type CommandOptions, commandOptions, user } from "./CommandOptions.ts"
import { AdminFailure, type Output, print, printAll, printLine, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

const describe = (row: MediaRow): string =>
  [
    mxc(row),
    time(row.createdAt),
    row.content === undefined
      ? "not uploaded"
      : `${plural(row.content.size, "byte")}  ${row.content.contentType ?? "no type"}`,
    ...(row.content?.fileName === undefined ? [] : [JSON.stringify(row.content.fileName)]),
    ...(row.quarantinedBy === undefined ? [] : [`in quarantine by ${row.quarantinedBy}`])
  ].join("  ")

const uri = Argument.String("uri").pipe(Argument.withDescription("The file, as mxc://server/id"))

const run = <A, R>(
  flags: CommandOptions,
  work: Effect.Effect<A, MatrixError, R | Administration | MediaKeeping | AuditStore>
) =>
  work.pipe(
    Effect.mapError(({ error }) => new AdminFailure({ message: error })),
    Effect.provide(
      onDatabase(flags, (config) =>
        Layer.mergeAll(
          administration(config),
          AuditStore.layer,
          MediaKeeping.layerOnStores.pipe(Layer.provide(MediaStore.layer))
        )
      )
    )
  )

const userIdOf = (name: string) =>
  Effect.map(
    Administration.use((admin) => admin.user(name)),
    ({ userId }) => userId
  )

const printUploads = Effect.fnUntraced(function* (output: Output, userId: UserId) {
  const keeping = yield* MediaKeeping
  const { bytes, files } = yield* keeping.usageOf(userId)
  const text = `${userId} has uploaded ${plural(files, "file")}, ${plural(bytes, "byte")} in all`
  yield* print(output, { user_id: userId, bytes, files }, text)
  let last: MediaRow | undefined
  for (;;) {
    const rows = yield* keeping.uploadsOf(userId, last)
    yield* printAll(output, rows, describe, (row) => ({ uri: mxc(row), ...row }))
    last = rows.at(-1)
    if (last === undefined) return
  }
})

const list = Command.make("list", { ...commandOptions, user }, (options) =>
  run(
    options,
    Effect.flatMap(userIdOf(options.user), (userId) => printUploads(options, userId))
  )
).pipe(Command.withDescription("List the uploads of a user, and their total size"))

const onFile = (
  name: string,
  description: string,
  done: string,
  act: (keeping: MediaKeeping["Service"]) => MediaKeeping["Service"]["remove"]
) =>
  Command.make(name, { ...commandOptions, uri }, (options) =>
    run(
      options,
      Effect.gen(function* () {
        const file = yield* parseMxc(options.uri)
        const change = act(yield* MediaKeeping)(file)
        yield* audited({ action: `media.${name}`, target: options.uri })(change)
        yield* printLine(options, `${options.uri} ${done}`)
      })
    )
  ).pipe(Command.withDescription(description))

const removeAll = Command.make("remove-all", { ...commandOptions, user }, (options) =>
  run(
    options,
    Effect.gen(function* () {
      const userId = yield* userIdOf(options.user)
      const count = yield* MediaKeeping.use((keeping) => keeping.removeAllOf(userId)).pipe(
        audited({ action: "media.remove_all", target: userId })
      )
      yield* printLine(options, `removed ${plural(count, "file")} of ${userId}`)
    })
  )
).pipe(Command.withDescription("Remove all uploads of a user"))

export const command = Command.make("media").pipe(
  Command.withDescription("Manage uploaded files, and those of other servers"),
  Command.withSubcommands([
    list,
    onFile(
      "quarantine",
      "Put a file into quarantine: its content is served to nobody, under any name",
      "is served no longer",
      (keeping) => (name) => keeping.quarantine(name, "the command line")
    ),
    onFile("release", "Release a file from quarantine", "is served again", (keeping) => keeping.release),
    onFile(
      "protect",
      "Protect a file of this server from quarantine and from removal by its age",
      "is protected",
      (keeping) => (name) => keeping.protect(name, true)
    ),
    onFile(
      "unprotect",
      "End the protection of a file",
      "is protected no longer",
      (keeping) => (name) => keeping.protect(name, false)
    ),
    onFile("remove", "Remove a file. Its bytes go within two hours", "was removed", (keeping) => keeping.remove),
    removeAll
  ])
)
