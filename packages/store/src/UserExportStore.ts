/**
 * Exports of the data of users (`internal/exportedParts.ts`), and those that administrators have requested.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"
import { type ExportedPart, makeExportedParts } from "./internal/exportedParts.ts"

export type { ExportedPart } from "./internal/exportedParts.ts"

export interface DataExport {
  readonly exportId: string
  readonly userId: UserId
  readonly requestedBy: UserId
  readonly reason: string
  readonly requestedAt: number
  readonly approvedBy: UserId | undefined
  readonly expiresAt: number
}

interface Row {
  readonly export_id: string
  readonly user_id: string
  readonly requested_by: string
  readonly reason: string
  readonly requested_at: bigint
  readonly approved_by: string | null
  readonly expires_at: bigint
}

const toExport = (row: Row): DataExport => ({
  exportId: row.export_id,
  userId: row.user_id as UserId,
  requestedBy: row.requested_by as UserId,
  reason: JSON.parse(row.reason) as string,
  requestedAt: Number(row.requested_at),
  approvedBy: (row.approved_by ?? undefined) as UserId | undefined,
  expiresAt: Number(row.expires_at)
})

export class UserExportStore extends Context.Service<
  UserExportStore,
  {
    /** All that is stored of the user: the account first, the events of each room last. */
    readonly parts: (userId: UserId) => Stream.Stream<ExportedPart>
    readonly add: (request: Omit<DataExport, "requestedAt" | "approvedBy">) => Effect.Effect<void>
    /** False if it was approved already, has expired, or is of this administrator. */
    readonly approve: (exportId: string, by: UserId, expiresAt: number) => Effect.Effect<boolean>
    readonly find: (exportId: string) => Effect.Effect<DataExport | undefined>
    /** A page, the newest first. */
    readonly list: (page: { readonly from: number; readonly limit: number }) => Effect.Effect<ReadonlyArray<DataExport>>
  }
>()("greenroom/store/UserExportStore") {
  static readonly layer = Layer.effect(
    UserExportStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      return UserExportStore.of({
        parts: makeExportedParts(sql),
        add: Effect.fnUntraced(function* ({ expiresAt, exportId, reason, requestedBy, userId }) {
          const now = yield* Clock.currentTimeMillis
          yield* sql`
            INSERT INTO data_exports (export_id, user_id, requested_by, reason, requested_at, expires_at)
            VALUES (${exportId}, ${userId}, ${requestedBy}, ${JSON.stringify(reason)}, ${now}, ${expiresAt})`
        }, Effect.orDie),
        approve: Effect.fnUntraced(function* (exportId, by, expiresAt) {
          const now = yield* Clock.currentTimeMillis
          const rows = yield* sql`
            UPDATE data_exports SET approved_by = ${by}, approved_at = ${now}, expires_at = ${expiresAt}
            WHERE export_id = ${exportId} AND requested_by <> ${by} AND approved_by IS NULL AND expires_at > ${now}
            RETURNING 1`
          return rows.length > 0
        }, Effect.orDie),
        find: (exportId) =>
          sql<Row>`SELECT * FROM data_exports WHERE export_id = ${exportId}`.pipe(
            Effect.map(([row]) => (row === undefined ? undefined : toExport(row))),
            Effect.orDie
          ),
        list: ({ from, limit }) =>
          sql<Row>`
            SELECT * FROM data_exports ORDER BY requested_at DESC, export_id LIMIT ${limit} OFFSET ${from}`.pipe(
            Effect.map((rows) => rows.map(toExport)),
            Effect.orDie
          )
      })
    })
  )
}
