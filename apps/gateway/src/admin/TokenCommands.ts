/**
 * Registration tokens on the command line.
 *
 *     greenroom token create --uses 5 --days 7
 */
import type { RegistrationToken } from "@greenroom/store/RegistrationTokenStore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { withAdministration as run } from "./AccountServices.ts"
import { commandOptions } from "./CommandOptions.ts"
import { AdminFailure, print, printAll, printLine, requirePositive, time } from "./CommandOutput.ts"

const describe = ({ expiresAt, tokenId, uses, usesAllowed }: RegistrationToken): string =>
  [
    tokenId,
    `used ${uses} of ${usesAllowed ?? "any number"}`,
    ...(expiresAt === undefined ? [] : [`expires ${time(expiresAt)}`])
  ].join("  ")

/** How many days a token may be valid: a hundred years. */
const mostDays = 36_500

const createToken = Command.make(
  "create",
  {
    ...commandOptions,
    uses: Flag.Int("uses").pipe(Flag.withDescription("How many accounts (default: 1)"), Flag.withDefault(1)),
    unlimited: Flag.Boolean("unlimited").pipe(Flag.withDefault(false), Flag.withDescription("Any number of accounts")),
    days: Flag.Int("days").pipe(Flag.withDescription("After how many days it expires (default: never)"), Flag.optional)
  },
  (options) =>
    run(
      options,
      (admin) =>
        Effect.gen(function* () {
          const days = Option.getOrUndefined(options.days)
          yield* requirePositive("--uses", options.uses)
          yield* requirePositive("--days", days)
          if (days !== undefined && days > mostDays) {
            return yield* new AdminFailure({ message: `--days must be at most ${mostDays}` })
          }
          const { token, tokenId } = yield* admin.createToken({
            uses: options.unlimited ? "unlimited" : options.uses,
            validFor: days === undefined ? undefined : days * 86_400_000
          })
          const secret = Redacted.value(token)
          yield* print(options, { token: secret, id: tokenId }, `token: ${secret}\nid: ${tokenId}`)
        }),
      true
    )
).pipe(Command.withDescription("Create a registration token. Its secret is shown only now"))

const listTokens = Command.make("list", commandOptions, (options) =>
  run(options, (admin) => Effect.flatMap(admin.tokens, (tokens) => printAll(options, tokens, describe)))
).pipe(Command.withDescription("List all registration tokens, without their secrets"))

const removeToken = Command.make(
  "remove",
  { ...commandOptions, id: Argument.String("id").pipe(Argument.withDescription("The ID of the token")) },
  (options) =>
    run(options, (admin) =>
      Effect.andThen(admin.removeToken(options.id), printLine(options, `${options.id} was withdrawn`))
    )
).pipe(Command.withDescription("Delete a registration token"))

export const command = Command.make("token").pipe(
  Command.withDescription("Manage registration tokens"),
  Command.withSubcommands([createToken, listTokens, removeToken])
)
