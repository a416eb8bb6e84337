/**
 * Redactions of all that a user has sent, which administrators have asked for, and which go on after a restart.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import { AuditSeq, appendFailure } from "./AuditStore.ts"
import { texts } from "./PgArrays.ts"
import { signalWork } from "./WorkSignals.ts"

export interface UserRedactionOptions {
  /** Empty for all rooms that the user is or was in. */
  readonly rooms: ReadonlyArray<RoomId>
  readonly reason?: string | undefined
  /** How many events of each room at most, the newest. */
  readonly limit: number
  readonly afterTime?: number | undefined
  readonly beforeTime?: number | undefined
}

export interface NewUserRedaction {
  readonly redactId: string
  readonly userId: UserId
  /** The user who redacts. */
  readonly sender: UserId
  readonly requestedBy: string
  readonly options: UserRedactionOptions
}

export type UserRedactionStatus = "scheduled" | "active" | "completed" | "failed"

export interface UserRedaction extends NewUserRedaction {
  readonly status: UserRedactionStatus
  /** Errors, by event ID. */
  readonly failed: { readonly [eventId: string]: string }
  readonly createdAt: number
  readonly finishedAt: number | undefined
}

/** A place in the timeline of a room, to go on before. */
export interface TimelinePlace {
  readonly xid: string
  readonly nid: number
}

interface Row {
  readonly redact_id: string
  readonly user_id: string
  readonly sender: string
  readonly requested_by: string
  readonly options: string
  readonly status: string
  readonly failed: string
  readonly created_at: bigint
  readonly finished_at: bigint | null
}

const toRedaction = (row: Row): UserRedaction => ({
  redactId: row.redact_id,
  userId: row.user_id as UserId,
  sender: row.sender as UserId,
  requestedBy: row.requested_by,
  options: JSON.parse(row.options) as UserRedactionOptions,
  status: row.status as UserRedactionStatus,
  failed: JSON.parse(row.failed) as UserRedaction["failed"],
  createdAt: Number(row.created_at),
  finishedAt: row.finished_at === null ? undefined : Number(row.finished_at)
})

/** The most events of a timeline that one statement examines: most are of other users. */
const slice = 2_000

export class UserRedactionStore extends Context.Service<
  UserRedactionStore,
  {
    /** Signals work of the kind `user redactions`. */
    readonly add: (redaction: NewUserRedaction) => Effect.Effect<void>
    /**
     * Changes nothing once the redaction is finished. One that ends with events that could not be redacted has a row in the audit log
     * that says so.
     */
    readonly set: (
      redactId: string,
      status: UserRedactionStatus,
      failed: UserRedaction["failed"]
    ) => Effect.Effect<void>
    readonly find: (redactId: string) => Effect.Effect<UserRedaction | undefined>
    /** A page of those of a user, the newest first. */
    readonly list: (
      userId: UserId,
      page: { readonly from: number; readonly limit: number }
    ) => Effect.Effect<ReadonlyArray<UserRedaction>>
    /** Those that are not finished, the oldest first. */
    readonly unfinished: Effect.Effect<ReadonlyArray<UserRedaction>>
    /** Rooms that this server does not know, of some. */
    readonly unknownRooms: (rooms: ReadonlyArray<RoomId>) => Effect.Effect<ReadonlyArray<RoomId>>
    /** The rooms in which the user has or had a membership. */
    readonly roomsOf: (userId: UserId) => Effect.Effect<ReadonlyArray<RoomId>>
    /**
     * Events of the user in a room that a redaction may strip, the newest first, from before the redaction was asked for: messages, and
     * what the user set their own membership to. `next` is where to go on, unless the timeline has ended.
     */
    readonly events: (
      redaction: Pick<UserRedaction, "redactId" | "userId">,
      roomId: RoomId,
      before: TimelinePlace | undefined
    ) => Effect.Effect<{ readonly eventIds: ReadonlyArray<EventId>; readonly next: TimelinePlace | undefined }>
  }
>()("greenroom/store/UserRedactionStore") {
  static readonly layer = Layer.effect(
    UserRedactionStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const select = (rest: Statement.Fragment) =>
        sql<Row>`
          SELECT redact_id, user_id, sender, requested_by, options, status, failed, created_at, finished_at
          FROM user_redactions WHERE ${rest}`.pipe(
          Effect.map((rows) => rows.map(toRedaction)),
          Effect.orDie
        )

      const events: UserRedactionStore["Service"]["events"] = Effect.fnUntraced(function* (
        { redactId, userId },
        roomId,
        before
      ) {
        const rows = yield* sql<{ xid: string; nid: bigint; event_id: string; is_wanted: boolean }>`
          SELECT xid::text AS xid, nid, event_id, sender = ${userId} AND type <> 'm.room.redaction'
            AND (state_key IS NULL OR (type = 'm.room.member' AND state_key = ${userId})) AS is_wanted
          FROM events
          WHERE room_nid = (SELECT room_nid FROM rooms WHERE room_id = ${roomId}) AND status <= 1
            AND xid < (SELECT until_xid FROM user_redactions WHERE redact_id = ${redactId})
            AND (xid, nid) < (${before?.xid ?? "18446744073709551615"}::xid8, ${before?.nid ?? 0}::bigint)
          ORDER BY events.xid DESC, events.nid DESC LIMIT ${slice}`
        const last = rows.at(-1)
        return {
          eventIds: rows.flatMap(({ event_id, is_wanted }) => (is_wanted ? [event_id as EventId] : [])),
          next: last === undefined || rows.length < slice ? undefined : { xid: last.xid, nid: Number(last.nid) }
        }
      }, Effect.orDie)

      return UserRedactionStore.of({
        add: Effect.fnUntraced(function* ({ options, redactId, requestedBy, sender, userId }) {
          const [now, auditSeq = null] = [yield* Clock.currentTimeMillis, yield* AuditSeq]
          const added = sql`
            INSERT INTO user_redactions (redact_id, user_id, sender, requested_by, options, status, failed, created_at, audit_seq)
            VALUES (${redactId}, ${userId}, ${sender}, ${requestedBy}, ${JSON.stringify(options)}, 'scheduled', '{}', ${now},
              ${auditSeq})`
          yield* sql.withTransaction(Effect.andThen(added, signalWork(sql, "user redactions")))
        }, Effect.orDie),
        set: Effect.fnUntraced(
          function* (redactId, status, failed) {
            const finished = status === "completed" || status === "failed" ? yield* Clock.currentTimeMillis : null
            const [changed] = yield* sql<{ audit_seq: bigint | null }>`
            UPDATE user_redactions SET status = ${status}, failed = ${JSON.stringify(failed)}, finished_at = ${finished}
            WHERE redact_id = ${redactId} AND finished_at IS NULL RETURNING audit_seq`
            const failures = Object.values(failed)
            if (finished === null || failures.length === 0 || changed === undefined || changed.audit_seq === null)
              return
            const reason = `${plural(failures.length, "event")} could not be redacted, the first one because: ${failures[0]}`
            yield* appendFailure(sql, Number(changed.audit_seq), { reason })
          },
          sql.withTransaction,
          Effect.orDie
        ),
        find: (redactId) => Effect.map(select(sql`redact_id = ${redactId}`), ([found]) => found),
        list: (userId, { from, limit }) =>
          select(sql`user_id = ${userId} ORDER BY created_at DESC, redact_id LIMIT ${limit} OFFSET ${from}`),
        unfinished: select(sql`finished_at IS NULL ORDER BY created_at, redact_id`),
        unknownRooms: (rooms) =>
          sql<{ room_id: string }>`
            SELECT room_id FROM unnest(${texts(rooms)}::text[]) AS asked (room_id)
            WHERE NOT EXISTS (SELECT FROM rooms WHERE rooms.room_id = asked.room_id AND current_chain IS NOT NULL)`.pipe(
            Effect.map((rows) => rows.map(({ room_id }) => room_id as RoomId)),
            Effect.orDie
          ),
        roomsOf: (userId) =>
          sql<{ room_id: string }>`
            SELECT room_id FROM memberships JOIN rooms USING (room_nid)
            WHERE user_id = ${userId} AND current_chain IS NOT NULL ORDER BY room_nid`.pipe(
            Effect.map((rows) => rows.map(({ room_id }) => room_id as RoomId)),
            Effect.orDie
          ),
        events
      })
    })
  )
}
