/** Reports of users about events, other users and rooms, as calls of `Reports`. */
import { Reports } from "@greenroom/actors/admin/Reports"
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { Context, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { makeAdminActions, nextOf, pageOf, withoutUndefined } from "./AdminAction.ts"

type Selection = Omit<Parameters<Reports["Service"]["page"]>[0], "from" | "limit" | "oldestFirst">

/** A page of reports, the newest first if the query says nothing else, and what its answer says about the page. */
export const pageOfReports = (
  reports: Reports["Service"],
  query: Parameters<typeof pageOf>[0],
  selection: Selection
) => {
  const { descending, from, limit } = pageOf({ dir: "b", ...query })
  return Effect.map(reports.page({ ...selection, from, limit, oldestFirst: !descending }), (found) => ({
    rows: found.reports,
    page: withoutUndefined({ total: found.total, next_token: nextOf(from, found.reports.length, found.total) })
  }))
}

export const reportHandlers = HttpApiBuilder.group(GreenroomAdminApi, "greenroomAdmin.reports", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const reports = Context.get(services, Reports)
    return handlers
      .handle("list", ({ query }) =>
        asAdmin({ action: "report.list" }, () =>
          Effect.map(pageOfReports(reports, query, {}), ({ page, rows }) => ({ reports: rows, ...page }))
        )
      )
      .handle("remove", ({ params: { reportId } }) =>
        asAdmin({ action: "report.delete", target: String(reportId) }, () => Effect.as(reports.remove(reportId), {}))
      )
  })
)
