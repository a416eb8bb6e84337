/**
 * Server notices: the room in which each user gets them, and those that wait to be sent.
 *
 * An error of the database is a defect. Source: "Server Notices" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { AuditSeq, appendFailure } from "./AuditStore.ts"
import { signalWork } from "./WorkSignals.ts"

export interface WaitingNotice {
  readonly noticeId: number
  readonly userId: UserId
  /** The content of the m.room.message. */
  readonly content: JsonObject
}

export class NoticeStore extends Context.Service<
  NoticeStore,
  {
    readonly roomOf: (userId: UserId) => Effect.Effect<Option.Option<RoomId>>
    /** Sets the room if it is still `before`. Returns the stored room. */
    readonly setRoom: (userId: UserId, before: Option.Option<RoomId>, roomId: RoomId) => Effect.Effect<RoomId>
    /** Queues a notice, and signals work of the kind `server notices`. */
    readonly add: (userId: UserId, content: JsonObject) => Effect.Effect<void>
    /** The oldest queued notices. */
    readonly waiting: (limit: number) => Effect.Effect<ReadonlyArray<WaitingNotice>>
    /** Removes a notice that was sent, or that could not be sent: `error` goes into the audit log, if the notice is of an administrator. */
    readonly remove: (noticeId: number, error?: string) => Effect.Effect<void>
  }
>()("greenroom/store/NoticeStore") {
  static readonly layer = Layer.effect(
    NoticeStore,
    Effect.map(SqlClient.SqlClient, (sql) => {
      const roomOf = (userId: UserId) =>
        sql<{ room_id: RoomId }>`SELECT room_id FROM notice_rooms WHERE user_id = ${userId}`.pipe(
          Effect.map((rows) => Option.fromNullishOr(rows[0]?.room_id)),
          Effect.orDie
        )

      return NoticeStore.of({
        roomOf,
        setRoom: (userId, before, roomId) =>
          sql`
            INSERT INTO notice_rooms AS notice (user_id, room_id) VALUES (${userId}, ${roomId})
            ON CONFLICT (user_id) DO UPDATE SET room_id = excluded.room_id
            WHERE notice.room_id = ${Option.getOrNull(before)}`.pipe(
            Effect.andThen(roomOf(userId)),
            Effect.map(Option.getOrElse(() => roomId)),
            Effect.orDie
          ),
        add: (userId, content) =>
          Effect.flatMap(
            AuditSeq,
            (auditSeq) => sql`
              INSERT INTO waiting_notices (user_id, content, audit_seq)
              VALUES (${userId}, ${JSON.stringify(content)}, ${auditSeq ?? null})`
          ).pipe(Effect.andThen(signalWork(sql, "server notices")), sql.withTransaction, Effect.asVoid, Effect.orDie),
        waiting: (limit) =>
          sql<{ notice_id: bigint; user_id: UserId; content: string }>`
            SELECT notice_id, user_id, content FROM waiting_notices ORDER BY notice_id LIMIT ${limit}`.pipe(
            Effect.map((rows) =>
              rows.map((row) => ({
                noticeId: Number(row.notice_id),
                userId: row.user_id,
                content: JSON.parse(row.content) as JsonObject
              }))
            ),
            Effect.orDie
          ),
        remove: Effect.fnUntraced(
          function* (noticeId, error) {
            const [removed] = yield* sql<{ audit_seq: bigint | null }>`
            DELETE FROM waiting_notices WHERE notice_id = ${noticeId} RETURNING audit_seq`
            if (error === undefined || removed === undefined || removed.audit_seq === null) return
            yield* appendFailure(sql, Number(removed.audit_seq), { reason: error })
          },
          sql.withTransaction,
          Effect.orDie
        )
      })
    })
  )
}
