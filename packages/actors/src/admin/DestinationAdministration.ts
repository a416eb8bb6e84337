/**
 * Other home servers for administrators: the state of each, the rooms shared with it, and an attempt on request.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 */
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { Context, Effect, Layer } from "effect"
import { type DestinationReport, Peers } from "../federation/Peers.ts"

/** A part of a list: `from` counts rows. */
export interface DestinationPage {
  readonly from: number
  readonly limit: number
  readonly descending: boolean
}

/** The column by which destinations are sorted. */
export type DestinationOrder = "destination" | "retry_last_ts" | "retry_interval" | "failure_ts" | "last_success_ts"

const keyOf = (report: DestinationReport, order: DestinationOrder): string | number => {
  switch (order) {
    case "destination":
      return report.destination
    case "last_success_ts":
      return report.last_success_ts ?? 0
    case "retry_interval":
      return report.backoff_until === undefined ? 0 : report.backoff_until - (report.last_attempt_ts ?? 0)
    default:
      return report.failures === 0 ? 0 : (report.last_attempt_ts ?? 0)
  }
}

const compare = (a: string | number, b: string | number): number => (a < b ? -1 : a > b ? 1 : 0)

const make = Effect.gen(function* () {
  const peers = yield* Peers
  const roomServers = yield* RoomServerStore

  const find = Effect.fn("DestinationAdministration.find")(function* (destination: ServerName) {
    const found = (yield* peers.list).find((destinationReport) => destinationReport.destination === destination)
    return found ?? (yield* new NotFound({ error: `This server has never tried to reach ${destination}` }))
  })

  return DestinationAdministration.of({
    page: Effect.fn("DestinationAdministration.page")(function* ({ descending, from, limit }, search, order) {
      const all = (yield* peers.list)
        .filter(({ destination }) => search === undefined || destination.includes(search.toLowerCase()))
        .sort((a, b) => compare(keyOf(a, order), keyOf(b, order)) * (descending ? -1 : 1))
      return { destinations: all.slice(from, from + limit), total: all.length }
    }),
    find,
    rooms: (destination, page) => Effect.andThen(find(destination), roomServers.roomsOf(destination, page)),
    retry: (destination) => Effect.andThen(find(destination), peers.heardFrom(destination))
  })
})

/** Other home servers for administrators. Does not check whether the caller is one. */
export class DestinationAdministration extends Context.Service<
  DestinationAdministration,
  {
    /** Selects destinations whose name contains `search`. */
    readonly page: (
      page: DestinationPage,
      search: string | undefined,
      order: DestinationOrder
    ) => Effect.Effect<{ readonly destinations: ReadonlyArray<DestinationReport>; readonly total: number }>
    /** Errors: M_NOT_FOUND. */
    readonly find: (destination: ServerName) => Effect.Effect<DestinationReport, MatrixError>
    /** The rooms that it takes part in. Errors: M_NOT_FOUND. */
    readonly rooms: (
      destination: ServerName,
      page: DestinationPage
    ) => Effect.Effect<{ readonly rooms: ReadonlyArray<RoomId>; readonly total: number }, MatrixError>
    /** Tries it again now, whenever it failed last. Errors: M_NOT_FOUND. */
    readonly retry: (destination: ServerName) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/DestinationAdministration") {
  static readonly layer = Layer.effect(DestinationAdministration, make)
}
