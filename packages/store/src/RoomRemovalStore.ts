/**
 * Rooms that administrators have blocked, which no user of this server may enter; and the removals of rooms and of history that
 * they asked for, which go on after a restart.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import { AuditSeq, appendFailure } from "./AuditStore.ts"
import { signalWork } from "./WorkSignals.ts"

export type RemovalStatus = "scheduled" | "shutting_down" | "purging" | "complete" | "failed"

export interface NewRemoval {
  readonly removalId: string
  readonly kind: "room" | "history"
  readonly roomId: RoomId
  readonly requestedBy: string
  readonly options: object
}

export interface Removal extends NewRemoval {
  readonly status: RemovalStatus
  /** The progress so far. */
  readonly result: { readonly [name: string]: unknown }
  readonly error: string | undefined
  readonly createdAt: number
  readonly finishedAt: number | undefined
}

interface RemovalRow {
  readonly removal_id: string
  readonly kind: string
  readonly room_id: string
  readonly requested_by: string
  readonly options: string
  readonly status: string
  readonly result: string
  readonly error: string | null
  readonly created_at: bigint
  readonly finished_at: bigint | null
}

const toRemoval = (row: RemovalRow): Removal => ({
  removalId: row.removal_id,
  kind: row.kind as Removal["kind"],
  roomId: row.room_id as RoomId,
  requestedBy: row.requested_by,
  options: JSON.parse(row.options) as object,
  status: row.status as RemovalStatus,
  result: JSON.parse(row.result) as Removal["result"],
  error: row.error ?? undefined,
  createdAt: Number(row.created_at),
  finishedAt: row.finished_at === null ? undefined : Number(row.finished_at)
})

export class RoomRemovalStore extends Context.Service<
  RoomRemovalStore,
  {
    readonly isBlocked: (roomId: RoomId) => Effect.Effect<boolean>
    /** The administrator that blocked the room. */
    readonly blockedBy: (roomId: RoomId) => Effect.Effect<string | undefined>
    readonly setBlocked: (roomId: RoomId, by: string | undefined) => Effect.Effect<void>

    /** Signals work of the kind `removals`. */
    readonly addRemoval: (removal: NewRemoval) => Effect.Effect<void>
    /** Changes nothing once the removal is finished. An error goes into the audit log too, in the name of the action that added it. */
    readonly setRemoval: (
      removalId: string,
      change: {
        readonly status: RemovalStatus
        readonly result?: Removal["result"] | undefined
        readonly error?: string | undefined
      }
    ) => Effect.Effect<void>
    readonly removal: (removalId: string) => Effect.Effect<Option.Option<Removal>>
    /** A page of the removals of a room, or those of one kind alone, the newest first. */
    readonly removalsOf: (
      roomId: RoomId,
      page: { readonly from: number; readonly limit: number },
      kind?: Removal["kind"]
    ) => Effect.Effect<ReadonlyArray<Removal>>
    /** The oldest first. */
    readonly unfinishedRemovals: Effect.Effect<ReadonlyArray<Removal>>
  }
>()("greenroom/store/RoomRemovalStore") {
  static readonly layer = Layer.effect(
    RoomRemovalStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const removals = (rest: Statement.Fragment) =>
        sql<RemovalRow>`SELECT * FROM room_removals WHERE ${rest}`.pipe(
          Effect.map((rows) => rows.map(toRemoval)),
          Effect.orDie
        )

      const setRemoval: RoomRemovalStore["Service"]["setRemoval"] = Effect.fnUntraced(
        function* (removalId, { error, result, status }) {
          const now = yield* Clock.currentTimeMillis
          const finished = status === "complete" || status === "failed" ? now : null
          const [changed] = yield* sql<{ audit_seq: bigint | null }>`
            UPDATE room_removals SET status = ${status}, error = ${error ?? null}, finished_at = ${finished},
              result = coalesce(${result === undefined ? null : JSON.stringify(result)}, result)
            WHERE removal_id = ${removalId} AND finished_at IS NULL RETURNING audit_seq`
          if (error === undefined || changed === undefined || changed.audit_seq === null) return
          yield* appendFailure(sql, Number(changed.audit_seq), { reason: error })
        },
        sql.withTransaction,
        Effect.orDie
      )

      return RoomRemovalStore.of({
        isBlocked: (roomId) =>
          sql`SELECT 1 FROM blocked_rooms WHERE room_id = ${roomId}`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        blockedBy: (roomId) =>
          sql<{ blocked_by: string }>`SELECT blocked_by FROM blocked_rooms WHERE room_id = ${roomId}`.pipe(
            Effect.map(([row]) => row?.blocked_by),
            Effect.orDie
          ),
        setBlocked: Effect.fnUntraced(function* (roomId, by) {
          const now = yield* Clock.currentTimeMillis
          yield* by === undefined
            ? sql`DELETE FROM blocked_rooms WHERE room_id = ${roomId}`
            : sql`INSERT INTO blocked_rooms (room_id, blocked_by, blocked_at) VALUES (${roomId}, ${by}, ${now})
                  ON CONFLICT DO NOTHING`
        }, Effect.orDie),
        addRemoval: Effect.fnUntraced(function* ({ kind, options, removalId, requestedBy, roomId }) {
          const [now, auditSeq = null] = [yield* Clock.currentTimeMillis, yield* AuditSeq]
          const added = sql`
            INSERT INTO room_removals (removal_id, kind, room_id, requested_by, options, status, result, created_at, audit_seq)
            VALUES (${removalId}, ${kind}, ${roomId}, ${requestedBy}, ${JSON.stringify(options)}, 'scheduled', '{}', ${now},
              ${auditSeq})`
          yield* sql.withTransaction(Effect.andThen(added, signalWork(sql, "removals")))
        }, Effect.orDie),
        setRemoval,
        removal: (removalId) =>
          Effect.map(removals(sql`removal_id = ${removalId}`), (found) => Option.fromNullishOr(found[0])),
        removalsOf: (roomId, { from, limit }, kind) =>
          removals(sql`room_id = ${roomId} AND kind = coalesce(${kind ?? null}, kind)
            ORDER BY created_at DESC, removal_id LIMIT ${limit} OFFSET ${from}`),
        unfinishedRemovals: removals(sql`finished_at IS NULL ORDER BY created_at, removal_id`)
      })
    })
  )
}
