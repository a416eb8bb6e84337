/**
 * Reports of users to the operators: events, rooms and users.
 *
 * An error of the database is a defect. Source: "Reporting Content" of the client-server specification.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { counted } from "./internal/counted.ts"
import { readPage } from "./internal/readPage.ts"

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

export interface ReportQuery {
  readonly from: number
  readonly limit: number
  readonly oldestFirst: boolean
  /** Those about events, or about users. Default: all. */
  readonly about?: "event" | "user" | undefined
  /** A part of the ID of the reporter, of the room, and of the reported user. */
  readonly reporter?: string | undefined
  readonly roomId?: string | undefined
  readonly userId?: string | undefined
}

interface Row {
  readonly report_id: bigint
  readonly reporter: string
  readonly room_id: string | null
  readonly event_id: string | null
  readonly user_id: string | null
  readonly reason: string
  readonly created_at: bigint
}

const toReport = (row: Row): Report => ({
  reportId: Number(row.report_id),
  reporter: row.reporter as UserId,
  roomId: (row.room_id ?? undefined) as RoomId | undefined,
  eventId: (row.event_id ?? undefined) as EventId | undefined,
  userId: (row.user_id ?? undefined) as UserId | undefined,
  reason: JSON.parse(row.reason) as string,
  createdAt: Number(row.created_at)
})

/** The period to which `most` applies, in milliseconds. */
const window = 24 * 3_600_000

export class ReportStore extends Context.Service<
  ReportStore,
  {
    /** False if the reporter made `most` reports within a day already. */
    readonly add: (report: NewReport, most: number) => Effect.Effect<boolean>
    /** The newest reports, before the given one if any. */
    readonly list: (limit: number, before?: number) => Effect.Effect<ReadonlyArray<Report>>
    /** A page of reports, with how many there are in all. */
    readonly page: (
      query: ReportQuery
    ) => Effect.Effect<{ readonly reports: ReadonlyArray<Report>; readonly total: number }>
    readonly find: (reportId: number) => Effect.Effect<Report | undefined>
    /** False if there is none. */
    readonly remove: (reportId: number) => Effect.Effect<boolean>
  }
>()("greenroom/store/ReportStore") {
  static readonly layer = Layer.effect(
    ReportStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const add = Effect.fnUntraced(function* (report: NewReport, most: number) {
        const now = yield* Clock.currentTimeMillis
        const { reporter } = report
        const rows = yield* counted(sql)(`reports ${reporter}`)(sql`
          INSERT INTO reports (reporter, room_id, event_id, user_id, reason, created_at)
          SELECT ${reporter}, ${report.roomId ?? null}, ${report.eventId ?? null}, ${report.userId ?? null},
                 ${JSON.stringify(report.reason)}, ${now}
          WHERE (SELECT count(*) FROM reports WHERE reporter = ${reporter}
            AND created_at > ${now - window} AND created_at <= ${now}) < ${most}
          RETURNING 1`)
        return rows.length > 0
      }, Effect.orDie)

      const list = (limit: number, before = Number.MAX_SAFE_INTEGER) =>
        sql<Row>`SELECT * FROM reports WHERE report_id < ${before} ORDER BY report_id DESC LIMIT ${limit}`.pipe(
          Effect.map((rows) => rows.map(toReport)),
          Effect.orDie
        )

      const page = Effect.fnUntraced(function* (query: ReportQuery) {
        const { about = null, from, limit, oldestFirst, reporter = null, roomId = null, userId = null } = query
        const { rows, total } = yield* readPage<Row>(sql, {
          rows: sql`
            SELECT * FROM reports
            WHERE CASE ${about}::text WHEN 'event' THEN event_id IS NOT NULL WHEN 'user' THEN user_id IS NOT NULL ELSE true END
              AND (${reporter}::text IS NULL OR position(${reporter} IN reporter) > 0)
              AND (${roomId}::text IS NULL OR position(${roomId} IN room_id) > 0)
              AND (${userId}::text IS NULL OR position(${userId} IN user_id) > 0)`,
          order: sql.literal(`report_id ${oldestFirst ? "ASC" : "DESC"}`),
          from,
          limit
        })
        return { reports: rows.map(toReport), total }
      }, Effect.orDie)

      return ReportStore.of({
        add,
        list,
        page,
        find: (reportId) =>
          sql<Row>`SELECT * FROM reports WHERE report_id = ${reportId}`.pipe(
            Effect.map(([row]) => (row === undefined ? undefined : toReport(row))),
            Effect.orDie
          ),
        remove: (reportId) =>
          sql`DELETE FROM reports WHERE report_id = ${reportId} RETURNING 1`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          )
      })
    })
  )
}
