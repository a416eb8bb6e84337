/**
 * What an operator does on the command line: accounts, registration tokens, signing keys and files. It works on the database,
 * whether the home server runs or not. The admin endpoints offer the same for accounts and tokens.
 *
 *     greenroom user create alice --admin
 *     greenroom token create --uses 5 --days 7
 *     greenroom signing-key rotate
 *     greenroom media quarantine mxc://example.org/SEsfnsuifSDFSSEF
 */
import { randomBytes } from "node:crypto"
import { Administration } from "@greenroom/actors/account/Administration"
import type { MediaKeeping } from "@greenroom/actors/media/MediaKeeping"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { Account } from "@greenroom/store/AccountStore"
import { type PublishedKey, SigningKeys } from "@greenroom/store/SigningKeys"
import { Console, Effect, type Layer, Option, Redacted, Stdio, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { mediaCommand } from "./MediaCommands.ts"
import { AdminFailure, type Place, type PlaceFlags, place, toPlace } from "./Place.ts"

const time = (milliseconds: number): string => new Date(milliseconds).toISOString().replace(/\.\d+Z$/, "Z")

const user = Argument.String("user").pipe(Argument.withDescription("A user name, or a whole user ID"))

const passwordStdin = Flag.Boolean("password-stdin").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Read the password from standard input; otherwise one is made and printed")
)

const firstLine = Effect.gen(function* () {
  const stdio = yield* Stdio.Stdio
  const text = yield* Stream.mkString(Stream.decodeText(stdio.stdin))
  return text.split(/\r?\n/, 1)[0] ?? ""
}).pipe(Effect.mapError(() => new AdminFailure({ message: "standard input could not be read" })))

/** The password of standard input, or a new one, which is printed once it holds. */
const readPassword = Effect.fnUntraced(function* (fromStdin: boolean) {
  if (fromStdin) return { password: Redacted.make(yield* firstLine), tell: Effect.void }
  const made = randomBytes(12).toString("base64url")
  return { password: Redacted.make(made), tell: Console.log(`password: ${made}`) }
})

const describe = ({ admin, createdAt, deactivatedAt, passwordHash, userId }: Account): string =>
  [
    userId,
    `created ${time(createdAt)}`,
    ...(admin ? ["admin"] : []),
    ...(passwordHash === undefined ? ["no password"] : []),
    ...(deactivatedAt === undefined ? [] : [`deactivated ${time(deactivatedAt)}`])
  ].join("  ")

const describeKey = ({ expiredAt, keyId }: PublishedKey): string =>
  `${keyId}  ${expiredAt === undefined ? "signs now" : `replaced ${time(expiredAt)}, published for what it signed`}`

type Connect = (place: Place) => Layer.Layer<Administration | SigningKeys | MediaKeeping, unknown, never>

/** The command with all its subcommands. `connect` leads to the database. */
export const adminCommand = (connect: Connect) => {
  const run = <A, R>(
    flags: PlaceFlags,
    use: (admin: Administration["Service"]) => Effect.Effect<A, MatrixError | AdminFailure, R>
  ) =>
    Effect.flatMap(Administration, use).pipe(
      Effect.mapError((error) => ("error" in error ? new AdminFailure({ message: error.error }) : error)),
      Effect.provide(connect(toPlace(flags)))
    )

  const withKeys = <A>(flags: PlaceFlags, use: (keys: SigningKeys["Service"]) => Effect.Effect<A>) =>
    Effect.provide(SigningKeys.use(use), connect(toPlace(flags)))

  const create = Command.make(
    "create",
    {
      ...place,
      user,
      passwordStdin,
      withoutPassword: Flag.Boolean("without-password").pipe(
        Flag.withDefault(false),
        Flag.withDescription("For a user who logs in by email or a service")
      ),
      admin: Flag.Boolean("admin").pipe(Flag.withDefault(false), Flag.withDescription("Make an admin")),
      email: Flag.String("email").pipe(
        Flag.withDescription("An address to log in with, taken as verified"),
        Flag.optional
      )
    },
    (options) =>
      run(options, (admin) =>
        Effect.gen(function* () {
          const chosen = options.withoutPassword ? undefined : yield* readPassword(options.passwordStdin)
          const email = Option.getOrUndefined(options.email)
          const { userId } = yield* admin.createUser({
            user: options.user,
            password: chosen?.password,
            admin: options.admin,
            email
          })
          yield* Console.log(`created ${userId}`)
          if (chosen !== undefined) yield* chosen.tell
        })
      )
  ).pipe(Command.withDescription("Create an account, also where registration is closed"))

  const list = Command.make("list", place, (options) =>
    run(options, (admin) =>
      Effect.gen(function* () {
        let after: UserId | undefined
        do {
          const { accounts, next } = yield* admin.users(after)
          for (const account of accounts) yield* Console.log(describe(account))
          after = next
        } while (after !== undefined)
      })
    )
  ).pipe(Command.withDescription("All accounts"))

  const show = Command.make("show", { ...place, user }, (options) =>
    run(options, (admin) => Effect.flatMap(admin.user(options.user), (account) => Console.log(describe(account))))
  ).pipe(Command.withDescription("An account"))

  const makeAdmin = Command.make(
    "admin",
    {
      ...place,
      user,
      revoke: Flag.Boolean("revoke").pipe(Flag.withDefault(false), Flag.withDescription("Make an admin no longer"))
    },
    (options) =>
      run(options, (admin) =>
        Effect.andThen(
          admin.setAdmin(options.user, !options.revoke),
          Console.log(`${options.user} is ${options.revoke ? "no longer " : ""}an admin`)
        )
      )
  ).pipe(Command.withDescription("Make a user an admin"))

  const resetPassword = Command.make("reset-password", { ...place, user, passwordStdin }, (options) =>
    run(options, (admin) =>
      Effect.gen(function* () {
        yield* admin.user(options.user)
        const { password, tell } = yield* readPassword(options.passwordStdin)
        yield* admin.resetPassword(options.user, password)
        yield* Console.log(`${options.user} has a new password, and is logged in nowhere`)
        yield* tell
      })
    )
  ).pipe(Command.withDescription("Set a new password; ends every login"))

  const deactivate = Command.make("deactivate", { ...place, user }, (options) =>
    run(options, (admin) =>
      Effect.andThen(admin.deactivate(options.user), Console.log(`${options.user} was deactivated`))
    )
  ).pipe(Command.withDescription("Deactivate an account. Its user ID stays taken"))

  const devices = Command.make("devices", { ...place, user }, (options) =>
    run(options, (admin) =>
      Effect.flatMap(admin.devices(options.user), (found) =>
        Effect.forEach(
          found,
          (device) =>
            Console.log(
              `${device.device_id}  last used ${time(device.last_seen_ts)}  ${JSON.stringify(device.display_name ?? "")}`
            ),
          { discard: true }
        )
      )
    )
  ).pipe(Command.withDescription("Where a user is logged in"))

  const logout = Command.make(
    "logout",
    { ...place, user, device: Argument.String("device").pipe(Argument.withDescription("A device ID")) },
    (options) =>
      run(options, (admin) =>
        Effect.andThen(admin.removeDevice(options.user, options.device), Console.log(`${options.device} is logged out`))
      )
  ).pipe(Command.withDescription("End the login of one device"))

  const createToken = Command.make(
    "create",
    {
      ...place,
      uses: Flag.Int("uses").pipe(Flag.withDescription("How many accounts (default: 1)"), Flag.withDefault(1)),
      unlimited: Flag.Boolean("unlimited").pipe(
        Flag.withDefault(false),
        Flag.withDescription("Any number of accounts")
      ),
      days: Flag.Int("days").pipe(
        Flag.withDescription("After how many days it expires (default: never)"),
        Flag.optional
      )
    },
    (options) =>
      run(options, (admin) =>
        Effect.gen(function* () {
          const days = Option.getOrUndefined(options.days)
          if (options.uses < 1) return yield* new AdminFailure({ message: "--uses must be at least 1" })
          if (days !== undefined && days < 1) return yield* new AdminFailure({ message: "--days must be at least 1" })
          const { token, tokenId } = yield* admin.createToken({
            uses: options.unlimited ? "unlimited" : options.uses,
            validFor: days === undefined ? undefined : days * 86_400_000
          })
          yield* Console.log(`token: ${Redacted.value(token)}\nid: ${tokenId}`)
        })
      )
  ).pipe(Command.withDescription("Make a registration token. Its secret is shown this once"))

  const listTokens = Command.make("list", place, (options) =>
    run(options, (admin) =>
      Effect.flatMap(admin.tokens, (tokens) =>
        Effect.forEach(
          tokens,
          ({ expiresAt, tokenId, uses, usesAllowed }) =>
            Console.log(
              `${tokenId}  used ${uses} of ${usesAllowed ?? "any number"}${expiresAt === undefined ? "" : `  expires ${time(expiresAt)}`}`
            ),
          { discard: true }
        )
      )
    )
  ).pipe(Command.withDescription("All registration tokens, without their secrets"))

  const removeToken = Command.make(
    "remove",
    { ...place, id: Argument.String("id").pipe(Argument.withDescription("The ID of the token")) },
    (options) =>
      run(options, (admin) => Effect.andThen(admin.removeToken(options.id), Console.log(`${options.id} was withdrawn`)))
  ).pipe(Command.withDescription("Withdraw a registration token"))

  const listKeys = Command.make("list", place, (options) =>
    withKeys(options, ({ list }) =>
      Effect.flatMap(list, (keys) => Effect.forEach(keys, (key) => Console.log(describeKey(key)), { discard: true }))
    )
  ).pipe(Command.withDescription("All signing keys, the current one first"))

  const rotateKey = Command.make("rotate", place, (options) =>
    withKeys(options, ({ rotate }) =>
      Effect.flatMap(rotate, ({ keyId }) =>
        Console.log(`${keyId} signs from now on, in a running server within a minute. Older keys stay published.`)
      )
    )
  ).pipe(Command.withDescription("Sign with a new key from now on. What older keys signed stays valid"))

  return Command.make("greenroom").pipe(
    Command.withDescription("Accounts, registration tokens, signing keys and files of a Greenroom home server."),
    Command.withSubcommands([
      Command.make("user").pipe(
        Command.withDescription("Accounts"),
        Command.withSubcommands([create, list, show, makeAdmin, resetPassword, deactivate, devices, logout])
      ),
      Command.make("token").pipe(
        Command.withDescription("Registration tokens"),
        Command.withSubcommands([createToken, listTokens, removeToken])
      ),
      Command.make("signing-key").pipe(
        Command.withDescription("The keys that the server signs events and requests with"),
        Command.withSubcommands([listKeys, rotateKey])
      ),
      mediaCommand(connect)
    ])
  )
}
