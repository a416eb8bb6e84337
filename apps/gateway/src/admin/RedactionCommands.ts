/**
 * Redacts what a user has sent, from the command line. A running server does it: within seconds, or at its next start.
 *
 *     greenroom user redact spammer --reason spam
 */
import { randomBytes } from "node:crypto"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { isHistoricalUserId, isRoomId, serverNameOf, userIdOfName } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import { AccountStore } from "@greenroom/store/AccountStore"
import { AuditStore } from "@greenroom/store/AuditStore"
import { type UserRedaction, UserRedactionStore } from "@greenroom/store/UserRedactionStore"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { audited, commandLine } from "./Audited.ts"
import { type CommandOptions, commandOptions, user } from "./CommandOptions.ts"
import { AdminFailure, print, printPages, requirePositive, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

const stores = Layer.mergeAll(UserRedactionStore.layer, AccountStore.layer, AuditStore.layer)

const run = <A, E>(
  flags: CommandOptions,
  use: Effect.Effect<A, E, UserRedactionStore | AccountStore | AuditStore | HomeServerConfig>
) =>
  Effect.provide(
    use,
    onDatabase(flags, () => Layer.merge(stores, Layer.effect(HomeServerConfig, HomeServerConfig)))
  )

const fail = (message: string) => Effect.fail(new AdminFailure({ message }))

/** A user of this or, if that is `anywhere`, of another server. */
const userIdOf = Effect.fnUntraced(function* (name: string, anywhere: boolean) {
  const { serverName } = yield* HomeServerConfig
  const userId = userIdOfName(name, serverName)
  if (!isHistoricalUserId(userId)) return yield* fail(`${name} is not a user name or user ID`)
  const isOurs = serverNameOf(userId) === serverName
  const account = isOurs ? yield* AccountStore.use((store) => store.find(userId)) : Option.none()
  if (Option.isNone(account) && (isOurs || !anywhere)) return yield* fail(`There is no user ${userId}`)
  return { userId, isOurs }
})

export const redact = Command.make(
  "redact",
  {
    ...commandOptions,
    user,
    room: Flag.String("room").pipe(
      Flag.withDescription("A room ID; may be repeated. Without it: all rooms that the user is or was in"),
      Flag.atLeast(0)
    ),
    reason: Flag.String("reason").pipe(Flag.withDescription("Users see it"), Flag.optional),
    limit: Flag.Int("limit").pipe(
      Flag.withDefault(1_000),
      Flag.withDescription("How many events of each room, the newest (default: 1000)")
    ),
    days: Flag.Int("days").pipe(Flag.withDescription("Only events of the last N days"), Flag.optional),
    as: Flag.String("as").pipe(
      Flag.withDescription("The user of this server who redacts, for users of other servers and those who left"),
      Flag.optional
    )
  },
  (options) =>
    run(
      options,
      Effect.gen(function* () {
        const days = Option.getOrUndefined(options.days)
        yield* requirePositive("--limit", options.limit)
        yield* requirePositive("--days", days)
        const { isOurs, userId } = yield* userIdOf(options.user, true)
        const as = Option.getOrUndefined(options.as)
        if (!isOurs && as === undefined) return yield* fail(`${userId} is of another server: say with --as who redacts`)
        const sender = as === undefined ? userId : (yield* userIdOf(as, false)).userId
        const rooms = options.room.filter(isRoomId)
        const noRoom = options.room.find((room) => !isRoomId(room))
        if (noRoom !== undefined) return yield* fail(`${noRoom} is not a room ID, such as !opaque:example.org`)
        const store = yield* UserRedactionStore
        const [unknown] = yield* store.unknownRooms(rooms)
        if (unknown !== undefined) return yield* fail(`There is no room ${unknown}`)
        const reason = Option.getOrUndefined(options.reason)
        const wanted = {
          rooms,
          reason,
          limit: options.limit,
          afterTime: days === undefined ? undefined : Date.now() - days * 86_400_000
        }
        const redactId = randomBytes(8).toString("hex")
        const details = { ...wanted, sender }
        yield* store
          .add({ redactId, userId, sender, requestedBy: commandLine, options: wanted })
          .pipe(audited({ action: "user.redact", target: userId, reason, details }))
        const text = `${redactId} was noted: a running server does it within seconds (see: greenroom user redactions ${options.user})`
        yield* print(options, { id: redactId }, text)
      })
    )
).pipe(Command.withDescription("Redact the messages of a user, and the profile in their joins"))

const describe = ({ createdAt, failed, redactId, sender, status }: UserRedaction): string => {
  const failures = Object.keys(failed).length
  const problem = failures === 0 ? [] : [`${plural(failures, "event")} could not be redacted`]
  return [redactId, status, `by ${sender}`, time(createdAt), ...problem].join("  ")
}

export const redactions = Command.make("redactions", { ...commandOptions, user }, (options) =>
  run(
    options,
    Effect.gen(function* () {
      const { userId } = yield* userIdOf(options.user, true)
      const store = yield* UserRedactionStore
      yield* printPages(options, (page) => store.list(userId, page), describe)
    })
  )
).pipe(Command.withDescription("List the redactions of a user's events with their progress, newest first"))
