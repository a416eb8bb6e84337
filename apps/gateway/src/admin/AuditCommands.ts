/**
 * The audit log on the command line.
 *
 *     greenroom audit list --target @alice:example.org
 *     greenroom audit verify --head 412:9f86d081...
 */
import { AuditLog } from "@greenroom/actors/admin/AuditLog"
import { plural } from "@greenroom/protocol/Plural"
import { type AuditEntry, AuditStore } from "@greenroom/store/AuditStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect, Layer, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { type CommandOptions, commandOptions } from "./CommandOptions.ts"
import { AdminFailure, print, printAll, requirePositive, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

const withAudit = <A, E, R>(flags: CommandOptions, use: (audit: AuditLog["Service"]) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(AuditLog, use).pipe(
    Effect.provide(
      onDatabase(flags, ({ serverName }) =>
        AuditLog.layerOnStores.pipe(Layer.provide([AuditStore.layer, SigningKeys.layer(serverName)]))
      )
    )
  )

const describe = ({ action, actor, at, details = {}, reason, seq, target }: AuditEntry): string =>
  [
    `${seq}`,
    time(at),
    actor,
    action,
    ...(target === undefined ? [] : [target]),
    ...(reason === undefined ? [] : [JSON.stringify(reason)]),
    ...(Object.keys(details).length === 0 ? [] : [JSON.stringify(details)])
  ].join("  ")

const list = Command.make(
  "list",
  {
    ...commandOptions,
    limit: Flag.Int("limit").pipe(Flag.withDefault(100), Flag.withDescription("How many entries (default: 100)")),
    before: Flag.Int("before").pipe(Flag.optional, Flag.withDescription("Entries before this number")),
    actor: Flag.String("actor").pipe(Flag.optional, Flag.withDescription("Actions of one administrator")),
    target: Flag.String("target").pipe(Flag.optional, Flag.withDescription("Actions on a user or a room"))
  },
  (options) =>
    withAudit(
      options,
      Effect.fnUntraced(function* (audit) {
        yield* requirePositive("--limit", options.limit)
        const entries = yield* audit.list({
          limit: options.limit,
          before: Option.getOrUndefined(options.before),
          actor: Option.getOrUndefined(options.actor),
          target: Option.getOrUndefined(options.target)
        })
        yield* printAll(options, entries, describe)
      })
    )
).pipe(Command.withDescription("List the actions of administrators, newest first"))

const notedHead = (text: string | undefined) => {
  if (text === undefined) return Effect.succeed(undefined)
  const [, seq, hash] = /^([0-9]{1,15}):([0-9a-f]{64})$/.exec(text) ?? []
  return seq === undefined || hash === undefined
    ? Effect.fail(new AdminFailure({ message: "--head must be ROW:HASH, as in the log of the server" }))
    : Effect.succeed({ seq: Number(seq), hash })
}

const verify = Command.make(
  "verify",
  {
    ...commandOptions,
    head: Flag.String("head").pipe(
      Flag.optional,
      Flag.withDescription("ROW:HASH from the log of the server: detects an audit log that was replaced as a whole")
    )
  },
  (options) =>
    withAudit(options, (audit) =>
      Effect.gen(function* () {
        const verdict = yield* audit.verify(yield* notedHead(Option.getOrUndefined(options.head)))
        const { heads, problems, rows } = verdict
        const summary = `${plural(rows, "row")} and ${plural(heads, "signed head")}`
        yield* print(options, verdict, problems.length === 0 ? `${summary}: the log is intact` : problems.join("\n"))
        if (problems.length > 0) {
          return yield* new AdminFailure({
            message: `the audit log is not whole: ${plural(problems.length, "problem")}`
          })
        }
      })
    )
).pipe(Command.withDescription("Verify that no entry was changed, removed or inserted; the exit code is 1 otherwise"))

export const command = Command.make("audit").pipe(
  Command.withDescription("List and verify the audit log"),
  Command.withSubcommands([list, verify])
)
