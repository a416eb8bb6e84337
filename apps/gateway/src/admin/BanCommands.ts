/**
 * Bans of users, servers and content on the command line. A running server follows within a second.
 *
 *     greenroom ban add server spam.example.org --reason "floods rooms"
 *     greenroom ban add content mxc://example.org/SEsfnsuifSDFSSEF --reason illegal
 */
import { parseMxc } from "@greenroom/actors/media/MediaKeeping"
import { banProblem, normalBan } from "@greenroom/actors/runtime/Bans"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { AuditStore } from "@greenroom/store/AuditStore"
import { type Ban, type BanKind, BanStore } from "@greenroom/store/BanStore"
import { MediaStore } from "@greenroom/store/MediaStore"
import { Effect, Layer, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { audited, commandLine } from "./Audited.ts"
import { configOf } from "./CommandConfig.ts"
import { type CommandOptions, commandOptions } from "./CommandOptions.ts"
import { AdminFailure, printAll, printLine, requireReason, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

/** The kinds of bans by their words on the command line. */
const kinds: Readonly<Record<string, BanKind>> = { user: "user", server: "server", content: "sha256" }
const wordOf = (kind: BanKind) => (kind === "sha256" ? "content" : kind)

const kind = Argument.Literals("kind", Object.keys(kinds)).pipe(Argument.withDescription("user, server or content"))
const value = Argument.String("value").pipe(
  Argument.withDescription(
    "A user ID, a server name, or content: mxc://server/id, or its SHA-256 in hexadecimal digits"
  )
)

const stores = Layer.mergeAll(BanStore.layer, AccountStore.layer, MediaStore.layer, AuditStore.layer)

const run = <A, E>(
  flags: CommandOptions,
  use: Effect.Effect<A, E, BanStore | AccountStore | MediaStore | AuditStore>
) =>
  Effect.provide(
    use,
    onDatabase(flags, () => stores)
  )

/** The hash of content that a URI names. */
const hashOf = Effect.fnUntraced(function* (uri: string) {
  const name = yield* Effect.mapError(parseMxc(uri), ({ error }) => new AdminFailure({ message: error }))
  const row = yield* MediaStore.use((store) => store.find(name))
  const sha256 = Option.isSome(row) ? row.value.content?.sha256 : undefined
  if (sha256 === undefined) return yield* new AdminFailure({ message: `There is no content ${uri} here` })
  return Buffer.from(sha256).toString("hex")
})

/** The value to ban, checked, in the form in which it is stored. */
const target = Effect.fnUntraced(function* (word: string, text: string) {
  const kind = kinds[word]!
  const value = kind === "sha256" && text.startsWith("mxc:") ? yield* hashOf(text) : text
  const problem = banProblem(kind, value)
  if (problem !== undefined) return yield* new AdminFailure({ message: `${text}: ${problem}` })
  return { kind, value: normalBan(kind, value) }
})

const describe = ({ bannedAt, bannedBy, kind, reason, value }: Ban): string =>
  [wordOf(kind), value, `by ${bannedBy}`, time(bannedAt), JSON.stringify(reason)].join("  ")

const toValue = ({ bannedAt, bannedBy, kind, reason, value }: Ban) => ({
  kind,
  value,
  reason,
  banned_by: bannedBy,
  banned_ts: bannedAt
})

const list = Command.make("list", commandOptions, (options) =>
  run(
    options,
    Effect.flatMap(
      BanStore.use((store) => store.all),
      (found) => printAll(options, found, describe, toValue)
    )
  )
).pipe(Command.withDescription("List bans, newest first"))

const add = Command.make(
  "add",
  {
    ...commandOptions,
    kind,
    value,
    reason: Flag.String("reason").pipe(Flag.withDescription("Why, for other administrators"))
  },
  (options) =>
    run(
      options,
      Effect.gen(function* () {
        const { serverName } = yield* configOf(options)
        const { kind, value } = yield* target(options.kind, options.value)
        if (value === serverName)
          return yield* new AdminFailure({ message: "This server cannot be banned from itself" })
        const { reason } = options
        yield* requireReason(reason)
        const isOurs = kind === "user" && serverNameOf(value as UserId) === serverName
        yield* Effect.gen(function* () {
          yield* BanStore.use((store) => store.add({ kind, value, reason, bannedBy: commandLine }))
          if (isOurs) yield* AccountStore.use((store) => store.revokeAll(value as UserId))
        }).pipe(audited({ action: `ban.${kind}`, target: value, reason }))
        yield* printLine(options, `${options.value} is banned${isOurs ? ", and logged in nowhere" : ""}`, {
          kind,
          value
        })
      })
    )
).pipe(Command.withDescription("Ban a user, a server, or content"))

const lift = Command.make("lift", { ...commandOptions, kind, value }, (options) =>
  run(
    options,
    Effect.gen(function* () {
      const { kind, value } = yield* target(options.kind, options.value)
      yield* BanStore.use((store) => store.lift(kind, value)).pipe(
        Effect.filterOrFail(
          (lifted) => lifted,
          () => new AdminFailure({ message: `${options.value} is not banned` })
        ),
        audited({ action: `ban.lift_${kind}`, target: value })
      )
      yield* printLine(options, `${options.value} is not banned any more`, { kind, value })
    })
  )
).pipe(Command.withDescription("Lift a ban"))

export const command = Command.make("ban").pipe(
  Command.withDescription("Ban users, servers and content"),
  Command.withSubcommands([list, add, lift])
)
