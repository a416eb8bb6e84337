/**
 * What users report to the operators: events, rooms and users.
 *
 * An error of the database is a defect. Source: "Reporting Content" of the client-server specification.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

export interface NewReport {
  readonly reporter: UserId
  readonly roomId?: RoomId | undefined
  readonly eventId?: EventId | undefined
  readonly userId?: UserId | undefined
  readonly reason: string
}

export interface Report extends NewReport {
  readonly reportId: number
  /** Milliseconds since 1970. */
  readonly createdAt: number
}

/** How long `most` counts, in milliseconds. */
const window = 24 * 3_600_000

export class ReportStore extends Context.Service<
  ReportStore,
  {
    /** False if the reporter made `most` reports within a day already. */
    readonly add: (report: NewReport, most: number) => Effect.Effect<boolean>
    /** The newest reports, before one if it is given. */
    readonly list: (limit: number, before?: number) => Effect.Effect<ReadonlyArray<Report>>
  }
>()("greenroom/store/ReportStore") {
  static readonly layer = Layer.effect(
    ReportStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const add = Effect.fnUntraced(function* (report: NewReport, most: number) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql`
          INSERT INTO reports (reporter, room_id, event_id, user_id, reason, created_at)
          SELECT ${report.reporter}, ${report.roomId ?? null}, ${report.eventId ?? null}, ${report.userId ?? null},
                 ${JSON.stringify(report.reason)}, ${now}
          WHERE (SELECT count(*) FROM reports WHERE reporter = ${report.reporter} AND created_at > ${now - window}) < ${most}
          RETURNING 1`
        return rows.length > 0
      }, Effect.orDie)

      const list = (limit: number, before = Number.MAX_SAFE_INTEGER) =>
        sql<{
          report_id: bigint
          reporter: string
          room_id: string | null
          event_id: string | null
          user_id: string | null
          reason: string
          created_at: bigint
        }>`SELECT * FROM reports WHERE report_id < ${before} ORDER BY report_id DESC LIMIT ${limit}`.pipe(
          Effect.map((rows) =>
            rows.map(
              (row): Report => ({
                reportId: Number(row.report_id),
                reporter: row.reporter as UserId,
                roomId: (row.room_id ?? undefined) as RoomId | undefined,
                eventId: (row.event_id ?? undefined) as EventId | undefined,
                userId: (row.user_id ?? undefined) as UserId | undefined,
                reason: JSON.parse(row.reason) as string,
                createdAt: Number(row.created_at)
              })
            )
          ),
          Effect.orDie
        )
      return ReportStore.of({ add, list })
    })
  )
}
