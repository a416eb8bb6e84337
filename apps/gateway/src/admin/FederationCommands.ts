/**
 * Other home servers on the command line.
 *
 *     greenroom federation destinations --failing
 *     greenroom federation retry blue.example.org
 */
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import { AuditStore } from "@greenroom/store/AuditStore"
import { type DestinationState, DestinationStore } from "@greenroom/store/DestinationStore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { audited } from "./Audited.ts"
import { type CommandOptions, commandOptions } from "./CommandOptions.ts"
import { AdminFailure, printAll, printLine, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

/** When the server is tried again: it may be due already. */
const whenOf = (retryAt: number): string => (retryAt <= Date.now() ? "with the next message" : time(retryAt))

const describe = ({ destination, failures, lastError, lastSuccessAt, retryAt }: DestinationState): string =>
  [
    destination,
    failures === 0 ? "reached" : `failed ${plural(failures, "time")}, tried again ${whenOf(retryAt)}`,
    ...(lastSuccessAt === undefined ? [] : [`last reached ${time(lastSuccessAt)}`]),
    ...(failures === 0 || lastError === undefined ? [] : [lastError])
  ].join("  ")

const withDestinations = <A, E>(
  flags: CommandOptions,
  use: (store: DestinationStore["Service"]) => Effect.Effect<A, E, AuditStore>
) =>
  Effect.provide(
    DestinationStore.use(use),
    onDatabase(flags, () => Layer.merge(DestinationStore.layer, AuditStore.layer))
  )

const destinations = Command.make(
  "destinations",
  {
    ...commandOptions,
    failing: Flag.Boolean("failing").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Only servers whose last request failed")
    )
  },
  (options) =>
    withDestinations(options, ({ list }) =>
      Effect.flatMap(list, (found) =>
        printAll(
          options,
          found.filter(({ failures }) => !options.failing || failures > 0),
          describe
        )
      )
    )
).pipe(Command.withDescription("List other home servers with their status"))

const retry = Command.make(
  "retry",
  { ...commandOptions, server: Argument.String("server").pipe(Argument.withDescription("The name of the server")) },
  (options) =>
    withDestinations(
      options,
      Effect.fnUntraced(function* ({ find, heardFrom }) {
        const server = options.server as ServerName
        if (!isServerName(server) || Option.isNone(yield* find(server))) {
          return yield* new AdminFailure({ message: `This server has never tried to reach ${server}` })
        }
        yield* audited({ action: "federation.reset_connection", target: server })(heardFrom(server))
        yield* printLine(options, `A running server tries ${server} again within half a minute`, {
          destination: server
        })
      })
    )
).pipe(Command.withDescription("End the back-off of a server, so that it is tried again at once"))

export const command = Command.make("federation").pipe(
  Command.withDescription("List and retry other home servers"),
  Command.withSubcommands([destinations, retry])
)
