/**
 * Other home servers, for administrators.
 *
 * Source: "Federation API" of Synapse's documentation.
 */
import { DestinationAdministration, type DestinationOrder } from "@greenroom/actors/admin/DestinationAdministration"
import type { DestinationReport } from "@greenroom/actors/federation/Peers"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import { Context, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { makeAdminActions, nextOf, orderOf, pageOf, withoutUndefined } from "./AdminAction.ts"

/** The fields are Synapse's. Greenroom has no stream positions per destination; the number of waiting events is its own. */
const toDestination = (report: DestinationReport) => ({
  destination: report.destination,
  retry_last_ts: report.failures === 0 ? 0 : (report.last_attempt_ts ?? 0),
  retry_interval: report.backoff_until === undefined ? 0 : report.backoff_until - (report.last_attempt_ts ?? 0),
  failure_ts: report.failures === 0 ? null : (report.last_attempt_ts ?? null),
  last_successful_stream_ordering: null,
  failures: report.failures,
  queue_length: report.queue_length,
  last_success_ts: report.last_success_ts ?? null,
  last_error: report.last_error ?? null
})

const orders: { readonly [Order in DestinationOrder]: Order } = {
  destination: "destination",
  retry_last_ts: "retry_last_ts",
  retry_interval: "retry_interval",
  failure_ts: "failure_ts",
  last_success_ts: "last_success_ts"
}

export const destinationHandlers = HttpApiBuilder.group(SynapseAdminApi, "synapseAdmin.federation", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const destinations = Context.get(services, DestinationAdministration)
    return handlers
      .handle("list", ({ query }) =>
        asAdmin({ action: "destination.list" }, () =>
          Effect.gen(function* () {
            const page = pageOf(query)
            const order = yield* orderOf(orders, query.order_by ?? "destination")
            const found = yield* destinations.page(page, query.destination, order)
            return withoutUndefined({
              destinations: found.destinations.map(toDestination),
              total: found.total,
              next_token: nextOf(page.from, found.destinations.length, found.total)?.toString()
            })
          })
        )
      )
      .handle("get", ({ params: { destination } }) =>
        asAdmin({ action: "destination.show", target: destination }, () =>
          Effect.map(destinations.find(destination), toDestination)
        )
      )
      .handle("rooms", ({ params: { destination }, query }) =>
        asAdmin({ action: "destination.rooms", target: destination }, () =>
          Effect.gen(function* () {
            const page = pageOf(query)
            const { rooms, total } = yield* destinations.rooms(destination, page)
            return withoutUndefined({
              rooms: rooms.map((room_id) => ({ room_id, stream_ordering: null })),
              total,
              next_token: nextOf(page.from, rooms.length, total)?.toString()
            })
          })
        )
      )
      .handle("reset", ({ params: { destination } }) =>
        asAdmin({ action: "destination.reset", target: destination }, () =>
          Effect.as(destinations.retry(destination), {})
        )
      )
  })
)
