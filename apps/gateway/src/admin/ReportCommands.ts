/**
 * Reports of users, on the command line.
 *
 *     greenroom report list
 */
import { AuditStore } from "@greenroom/store/AuditStore"
import { type Report, ReportStore } from "@greenroom/store/ReportStore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { audited } from "./Audited.ts"
import { commandOptions } from "./CommandOptions.ts"
import { AdminFailure, printLine, printPages, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

const stores = () => Layer.merge(ReportStore.layer, AuditStore.layer)

const describe = ({ createdAt, eventId, reason, reporter, reportId, roomId, userId }: Report): string =>
  [
    `${reportId}`,
    time(createdAt),
    `by ${reporter}`,
    ...[roomId, eventId, userId].flatMap((what) => what ?? []),
    JSON.stringify(reason)
  ].join("  ")

const list = Command.make("list", commandOptions, (options) =>
  ReportStore.use(({ page }) =>
    printPages(options, (rows) => Effect.map(page({ ...rows, oldestFirst: false }), ({ reports }) => reports), describe)
  ).pipe(Effect.provide(onDatabase(options, stores)))
).pipe(Command.withDescription("List the reports of users, newest first"))

const remove = Command.make(
  "remove",
  { ...commandOptions, id: Argument.Int("id").pipe(Argument.withDescription("The number of the report")) },
  (options) =>
    ReportStore.use((store) => store.remove(options.id)).pipe(
      Effect.filterOrFail(
        (removed) => removed,
        () => new AdminFailure({ message: "There is no such report" })
      ),
      audited({ action: "report.delete", target: `${options.id}` }),
      Effect.andThen(printLine(options, `report ${options.id} was removed`)),
      Effect.provide(onDatabase(options, stores))
    )
).pipe(Command.withDescription("Remove a report that is resolved"))

export const command = Command.make("report").pipe(
  Command.withDescription("List and resolve the reports of users"),
  Command.withSubcommands([list, remove])
)
