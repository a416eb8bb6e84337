/**
 * The data of one user, for an operator under dual control: one administrator requests it, another one approves, the first reads it.
 * Each authenticates with a password. A user's own export needs no command (`/_greenroom/client/v1/export`).
 *
 *     greenroom export request alice --as carol --reason 'court order 17'
 *     greenroom export approve ID --as dora --reason 'seen the order'
 *     greenroom export read ID alice.jsonl --as carol
 */
import * as fs from "node:fs"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { Administration } from "@greenroom/actors/account/Administration"
import { Passwords } from "@greenroom/actors/account/Passwords"
import { UserExports } from "@greenroom/actors/admin/UserExports"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { AuditStore } from "@greenroom/store/AuditStore"
import { type DataExport, UserExportStore } from "@greenroom/store/UserExportStore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { administration } from "./AccountServices.ts"
import { audited } from "./Audited.ts"
import { type CommandOptions, commandOptions, user } from "./CommandOptions.ts"
import { AdminFailure, print, printLine, printPages, requireReason, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"
import { readSecret } from "./StandardInput.ts"

const exportId = Argument.String("id").pipe(Argument.withDescription("The ID of the export"))
const by = Flag.String("as").pipe(
  Flag.withDescription("The administrator that does it. The password is read from standard input")
)
const reason = Flag.String("reason").pipe(Flag.withDescription("Why, for the audit log"))

const services = Layer.merge(AuditStore.layer, Passwords.layer).pipe(
  Layer.provideMerge(UserExports.layer.pipe(Layer.provide(Layer.merge(UserExportStore.layer, AccountStore.layer))))
)

const run = <A, R>(
  flags: CommandOptions,
  work: Effect.Effect<A, MatrixError | AdminFailure, R | Administration | AuditStore | Passwords | UserExports>
) =>
  work.pipe(
    Effect.mapError((error) => ("error" in error ? new AdminFailure({ message: error.error }) : error)),
    Effect.provide(onDatabase(flags, (config) => Layer.merge(administration(config), services)))
  )

/** The administrator with this name, authenticated by the password on standard input. */
const authenticated = Effect.fnUntraced(function* (name: string) {
  const account = yield* Administration.use((admin) => admin.user(name))
  const password = yield* readSecret(`Password of ${account.userId}`)
  const hash = account.passwordHash === undefined ? undefined : Redacted.value(account.passwordHash)
  const { correct } = yield* Passwords.use(({ verify }) => verify(password, hash))
  if (!correct) return yield* new AdminFailure({ message: `The password of ${account.userId} is wrong` })
  if (!account.admin || account.deactivatedAt !== undefined)
    return yield* new AdminFailure({ message: `${account.userId} is not an administrator` })
  yield* Administration.use((admin) => admin.requireAdmin({ userId: account.userId, tokenId: 0, deviceId: "" }))
  return account.userId
})

const toValue = (dataExport: DataExport) => ({
  export_id: dataExport.exportId,
  user_id: dataExport.userId,
  requested_by: dataExport.requestedBy,
  reason: dataExport.reason,
  requested_ts: dataExport.requestedAt,
  ...(dataExport.approvedBy === undefined ? {} : { approved_by: dataExport.approvedBy }),
  expires_ts: dataExport.expiresAt
})

const describe = ({ approvedBy, expiresAt, exportId, reason, requestedBy, userId }: DataExport): string =>
  [
    exportId,
    userId,
    `asked for by ${requestedBy}`,
    JSON.stringify(reason),
    approvedBy === undefined ? "waits for another administrator" : `approved by ${approvedBy}`,
    `until ${time(expiresAt)}`
  ].join("  ")

const list = Command.make("list", commandOptions, (options) =>
  run(
    options,
    UserExports.use((exports) => printPages(options, exports.list, describe, toValue))
  )
).pipe(Command.withDescription("List exports that administrators have requested"))

const request = Command.make(
  "request",
  {
    ...commandOptions,
    user,
    by,
    reason
  },
  (options) =>
    run(
      options,
      Effect.gen(function* () {
        yield* requireReason(options.reason)
        const admin = yield* authenticated(options.by)
        const { userId } = yield* Administration.use(({ user }) => user(options.user))
        const asked = yield* UserExports.use((exports) => exports.request(userId, admin, options.reason)).pipe(
          audited({ actor: admin, action: "export.request", target: userId, reason: options.reason })
        )
        yield* print(
          options,
          { export_id: asked.exportId, user_id: userId, expires_ts: asked.expiresAt },
          `${asked.exportId} waits for another administrator until ${time(asked.expiresAt)}`
        )
      })
    )
).pipe(Command.withDescription("Request the data of a user. Another administrator must approve within 24 hours"))

const approve = Command.make("approve", { ...commandOptions, exportId, by, reason }, (options) =>
  run(
    options,
    Effect.gen(function* () {
      yield* requireReason(options.reason)
      const admin = yield* authenticated(options.by)
      const details = { export_id: options.exportId }
      const approved = yield* UserExports.use((exports) => exports.approve(options.exportId, admin)).pipe(
        audited({ actor: admin, action: "export.approve", reason: options.reason, details })
      )
      const sentence = `${approved.requestedBy} can read ${approved.exportId} until ${time(approved.expiresAt)}`
      yield* print(options, toValue(approved), sentence)
    })
  )
).pipe(Command.withDescription("Approve an export that another administrator has requested"))

/** Writes a file that only its owner can read. It gets its name once it is complete. */
const write = (file: string, lines: Stream.Stream<Uint8Array>) =>
  Effect.tryPromise({
    try: async () => {
      const unfinished = `${file}.unfinished`
      try {
        const target = fs.createWriteStream(unfinished, { mode: 0o600, flush: true })
        await pipeline(Readable.from(Stream.toAsyncIterable(lines), { objectMode: false }), target)
        await fs.promises.link(unfinished, file)
      } finally {
        await fs.promises.rm(unfinished, { force: true })
      }
    },
    catch: (error) => new AdminFailure({ message: `The export could not be written: ${(error as Error).message}` })
  })

const read = Command.make(
  "read",
  {
    ...commandOptions,
    exportId,
    file: Argument.String("file").pipe(Argument.withDescription("The file to write, which must not exist")),
    by
  },
  (options) =>
    run(
      options,
      Effect.gen(function* () {
        if (fs.existsSync(options.file)) {
          return yield* new AdminFailure({ message: `${options.file} is there already` })
        }
        const admin = yield* authenticated(options.by)
        const details = { export_id: options.exportId }
        yield* UserExports.use((exports) => exports.read(options.exportId, admin)).pipe(
          Effect.flatMap((lines) => write(options.file, lines)),
          audited({ actor: admin, action: "export.read", details })
        )
        yield* printLine(options, `${options.file} was written. Keep it secret.`, { file: options.file })
      })
    )
).pipe(Command.withDescription("Write an approved export into a file, for the administrator that requested it"))

export const command = Command.make("export").pipe(
  Command.withDescription("Export the data of one user, under dual control"),
  Command.withSubcommands([list, request, approve, read])
)
