/**
 * Reports of users, as a queue for administrators: a report is removed when it has been dealt with.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 */
import type { JsonObject } from "@greenroom/protocol/Json"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { EventStore } from "@greenroom/store/EventStore"
import { type Report, type ReportQuery, ReportStore } from "@greenroom/store/ReportStore"
import { Context, Effect, Layer } from "effect"

const missing = new NotFound({ error: "There is no such report" })

const isAbout = (report: Report, about: ReportQuery["about"]): boolean =>
  about === undefined || report[about === "event" ? "eventId" : "userId"] !== undefined

const make = Effect.gen(function* () {
  const store = yield* ReportStore
  const events = yield* EventStore

  /** A report with the sender of the reported event. */
  const withSenders = Effect.fnUntraced(function* (reports: ReadonlyArray<Report>) {
    const stored = yield* events.byIds(reports.flatMap(({ eventId }) => eventId ?? []))
    const byId = new Map(stored.map(({ event }) => [event.event_id, event]))
    return reports.map((report): { readonly shown: JsonObject; readonly event: JsonObject | null } => {
      const event = report.eventId === undefined ? undefined : byId.get(report.eventId)
      return {
        event: (event ?? null) as JsonObject | null,
        shown: {
          id: report.reportId,
          received_ts: report.createdAt,
          room_id: report.roomId ?? null,
          event_id: report.eventId ?? null,
          user_id: report.reporter,
          reported_user_id: report.userId ?? null,
          reason: report.reason,
          score: null,
          sender: event?.sender ?? null,
          name: null,
          canonical_alias: null
        }
      }
    })
  })

  return Reports.of({
    page: Effect.fn("Reports.page")(function* (query) {
      const { reports, total } = yield* store.page(query)
      return { reports: (yield* withSenders(reports)).map(({ shown }) => shown), total }
    }),
    find: Effect.fn("Reports.find")(function* (reportId, about) {
      const report = yield* store.find(reportId)
      if (report === undefined || !isAbout(report, about)) return yield* missing
      const [found] = yield* withSenders([report])
      return { ...found!.shown, event_json: found!.event }
    }),
    remove: Effect.fn("Reports.remove")(function* (reportId, about) {
      const report = yield* store.find(reportId)
      const isWanted = report !== undefined && isAbout(report, about)
      if (!isWanted || !(yield* store.remove(reportId))) return yield* missing
    })
  })
})

/** The reports of users, for administrators. Does not check whether the caller is one. */
export class Reports extends Context.Service<
  Reports,
  {
    readonly page: (
      query: ReportQuery
    ) => Effect.Effect<{ readonly reports: ReadonlyArray<JsonObject>; readonly total: number }>
    /** One report with the reported event. Errors: M_NOT_FOUND, also if the report is not about `about`. */
    readonly find: (reportId: number, about?: ReportQuery["about"]) => Effect.Effect<JsonObject, MatrixError>
    /** Errors: as for `find`. */
    readonly remove: (reportId: number, about?: ReportQuery["about"]) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Reports") {
  static readonly layer = Layer.effect(Reports, make)
}
