/**
 * Accounts on the command line. The commands work on the database, whether the home server runs or not.
 *
 *     greenroom user create alice --admin
 */
import { randomBytes } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Account } from "@greenroom/store/AccountStore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { withAdministration as run } from "./AccountServices.ts"
import { configOf } from "./CommandConfig.ts"
import { commandOptions, user } from "./CommandOptions.ts"
import { AdminFailure, print, printAll, printLine, time } from "./CommandOutput.ts"
import { redact, redactions } from "./RedactionCommands.ts"
import { firstLine } from "./StandardInput.ts"

const passwordStdin = Flag.Boolean("password-stdin").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Read the password from standard input; otherwise one is made and printed")
)

/** The password of standard input, or a generated one (`made`), which is printed once it is set. */
const readPassword = Effect.fnUntraced(function* (fromStdin: boolean) {
  if (fromStdin) return { password: Redacted.make(yield* firstLine), made: undefined }
  const made = randomBytes(12).toString("base64url")
  return { password: Redacted.make(made), made }
})

const andPassword = (sentence: string, made: string | undefined): string =>
  made === undefined ? sentence : `${sentence}\npassword: ${made}`

/** An account as JSON, without the hash of its password. */
const toValue = ({ admin, awaitingApproval, createdAt, deactivatedAt, passwordHash, userId }: Account) => ({
  user_id: userId,
  created_ts: createdAt,
  admin,
  has_password: passwordHash !== undefined,
  ...(awaitingApproval ? { awaiting_approval: true } : {}),
  ...(deactivatedAt === undefined ? {} : { deactivated_ts: deactivatedAt })
})

const describe = ({ admin, awaitingApproval, createdAt, deactivatedAt, passwordHash, userId }: Account): string =>
  [
    userId,
    `created ${time(createdAt)}`,
    ...(admin ? ["admin"] : []),
    ...(awaitingApproval ? ["waits for approval"] : []),
    ...(passwordHash === undefined ? ["no password"] : []),
    ...(deactivatedAt === undefined ? [] : [`deactivated ${time(deactivatedAt)}`])
  ].join("  ")

const create = Command.make(
  "create",
  {
    ...commandOptions,
    user,
    passwordStdin,
    withoutPassword: Flag.Boolean("without-password").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Make an account without a password, for logins by email or an OAuth2 provider")
    ),
    admin: Flag.Boolean("admin").pipe(Flag.withDefault(false), Flag.withDescription("Make an admin")),
    email: Flag.String("email").pipe(
      Flag.withDescription("An address to log in with, taken as verified"),
      Flag.optional
    )
  },
  (options) =>
    run(
      options,
      (admin) =>
        Effect.gen(function* () {
          const chosen = options.withoutPassword ? undefined : yield* readPassword(options.passwordStdin)
          const email = Option.getOrUndefined(options.email)
          const { userId } = yield* admin.createUser({
            user: options.user,
            password: chosen?.password,
            admin: options.admin,
            email
          })
          const value = { user_id: userId, password: chosen?.made }
          yield* print(options, value, andPassword(`created ${userId}`, chosen?.made))
        }),
      true
    )
).pipe(Command.withDescription("Create an account, also if registration is closed"))

const list = Command.make(
  "list",
  {
    ...commandOptions,
    waiting: Flag.Boolean("waiting").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Only accounts that wait for approval, the oldest first")
    )
  },
  (options) =>
    run(options, (admin) =>
      Effect.gen(function* () {
        if (options.waiting) return yield* printAll(options, yield* admin.waiting, describe, toValue)
        let after: UserId | undefined
        do {
          const { accounts, next } = yield* admin.users(after)
          yield* printAll(options, accounts, describe, toValue)
          after = next
        } while (after !== undefined)
      })
    )
).pipe(Command.withDescription("List all accounts"))

const approve = Command.make("approve", { ...commandOptions, user }, (options) =>
  run(options, (admin) =>
    Effect.tap(admin.approve(options.user), (userId) => printLine(options, `${userId} was approved`))
  )
).pipe(Command.withDescription("Approve an account that waits for approval"))

const reject = Command.make("reject", { ...commandOptions, user }, (options) =>
  run(options, (admin) =>
    Effect.tap(admin.reject(options.user), (userId) => printLine(options, `${userId} was rejected`))
  )
).pipe(
  Command.withDescription(
    "Reject an account that waits for approval: deactivates it. Its user ID cannot be registered again"
  )
)

const show = Command.make("show", { ...commandOptions, user }, (options) =>
  run(options, (admin) =>
    Effect.flatMap(admin.user(options.user), (account) => print(options, toValue(account), describe(account)))
  )
).pipe(Command.withDescription("Show an account"))

const makeAdmin = Command.make(
  "admin",
  {
    ...commandOptions,
    user,
    admin: Flag.Boolean("admin").pipe(Flag.withDefault(true), Flag.withDescription("--no-admin: an admin no longer")),
    revoke: Flag.Boolean("revoke").pipe(Flag.withDefault(false), Flag.withDescription("The same as --no-admin"))
  },
  (options) => {
    const admin = options.admin && !options.revoke
    return run(options, ({ setAdmin }) =>
      Effect.andThen(
        setAdmin(options.user, admin),
        printLine(options, `${options.user} is ${admin ? "" : "no longer "}an admin`)
      )
    )
  }
).pipe(Command.withDescription("Make a user an administrator; --no-admin ends that"))

const resetPassword = Command.make("reset-password", { ...commandOptions, user, passwordStdin }, (options) =>
  run(options, (admin) =>
    Effect.gen(function* () {
      yield* admin.user(options.user)
      const { made, password } = yield* readPassword(options.passwordStdin)
      yield* admin.resetPassword(options.user, password)
      const done = `${options.user} has a new password, and is logged in nowhere`
      yield* print(options, { done, password: made }, andPassword(done, made))
    })
  )
).pipe(Command.withDescription("Set a new password, and end every login"))

const deactivate = Command.make("deactivate", { ...commandOptions, user }, (options) =>
  run(options, (admin) =>
    Effect.andThen(admin.deactivate(options.user), printLine(options, `${options.user} was deactivated`))
  )
).pipe(Command.withDescription("Deactivate an account. Its user ID cannot be registered again"))

const devices = Command.make("devices", { ...commandOptions, user }, (options) =>
  run(options, (admin) =>
    Effect.flatMap(admin.devices(options.user), (found) =>
      printAll(
        options,
        found,
        (device) =>
          `${device.device_id}  last used ${time(device.last_seen_ts)}  ${JSON.stringify(device.display_name ?? "")}`
      )
    )
  )
).pipe(Command.withDescription("List the devices on which a user is logged in"))

const logout = Command.make(
  "logout",
  { ...commandOptions, user, device: Argument.String("device").pipe(Argument.withDescription("A device ID")) },
  (options) =>
    run(options, (admin) =>
      Effect.andThen(
        admin.removeDevice(options.user, options.device),
        printLine(options, `${options.device} is logged out`)
      )
    )
).pipe(Command.withDescription("End the login of one device"))

const standings = {
  lock: {
    change: { locked: true },
    text: "is locked",
    description: "Lock an account, so that it cannot be used at all"
  },
  unlock: { change: { locked: false }, text: "is no longer locked", description: "Unlock an account" },
  suspend: {
    change: { suspended: true },
    text: "is suspended",
    description: "Suspend an account, so that it may only read, leave rooms and redact its own events"
  },
  unsuspend: { change: { suspended: false }, text: "is no longer suspended", description: "End a suspension" }
} as const

const standing = (name: keyof typeof standings) => {
  const { change, description, text } = standings[name]
  return Command.make(name, { ...commandOptions, user }, (options) =>
    run(options, (admin) =>
      Effect.andThen(admin.setStanding(options.user, change), printLine(options, `${options.user} ${text}`))
    )
  ).pipe(Command.withDescription(description))
}

const standingCommands = (["lock", "unlock", "suspend", "unsuspend"] as const).map(standing)

const notice = Command.make(
  "notice",
  { ...commandOptions, user, text: Argument.String("text").pipe(Argument.withDescription("The text of the notice")) },
  (options) =>
    Effect.gen(function* () {
      if ((yield* configOf(options)).serverNoticesLocalpart === undefined) {
        return yield* new AdminFailure({ message: "Server notices are off: set server_notices.localpart" })
      }
      yield* run(options, (admin) => admin.sendNotice(options.user, options.text))
      yield* printLine(options, `the running server sends it to ${options.user} within seconds`)
    })
).pipe(Command.withDescription("Send a notice to a user, in a room of its own"))

export const command = Command.make("user").pipe(
  Command.withDescription("Manage accounts"),
  Command.withSubcommands([
    create,
    list,
    approve,
    reject,
    show,
    makeAdmin,
    resetPassword,
    deactivate,
    devices,
    logout,
    ...standingCommands,
    notice,
    redact,
    redactions
  ])
)
