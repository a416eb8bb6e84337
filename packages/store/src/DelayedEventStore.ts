/**
 * Events that are sent later. A row is scheduled until it is finalised: sent, failed or cancelled. When its time has come it is
 * `sending`: this node or another one will send it, and it can neither be cancelled nor restarted.
 *
 * Used by `DelayedEvents` alone. An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { counted } from "./internal/counted.ts"
import { signalWork } from "./WorkSignals.ts"

export interface NewDelayedEvent {
  readonly delayId: string
  readonly userId: UserId
  /** Identifies the request, together with `txnKey`, so that a repeat finds the event of the first one. */
  readonly tokenId: number
  readonly txnKey: string
  readonly roomId: RoomId
  readonly type: string
  /** Undefined for an event that is not a state event. */
  readonly stateKey: string | undefined
  readonly content: JsonObject
  /** In ms, from when it is scheduled. */
  readonly delay: number
}

export interface DelayedEvent extends Omit<NewDelayedEvent, "tokenId" | "txnKey"> {
  readonly scheduledAt: number
  readonly finalisedAt: number | undefined
  readonly eventId: EventId | undefined
  readonly error: JsonObject | undefined
}

/** The outcome of an event: both undefined if it was cancelled. */
export interface DelayedOutcome {
  readonly eventId?: EventId
  readonly error?: JsonObject
}

interface Row {
  readonly delay_id: string
  readonly user_id: string
  readonly room_id: string
  readonly type: string
  readonly state_key: string | null
  readonly content: string
  readonly delay: bigint
  readonly scheduled_at: bigint
  readonly finalised_at: bigint | null
  readonly event_id: string | null
  readonly error: string | null
}

const toEvent = (row: Row): DelayedEvent => ({
  delayId: row.delay_id,
  userId: row.user_id as UserId,
  roomId: row.room_id as RoomId,
  type: row.type,
  stateKey: row.state_key ?? undefined,
  content: JSON.parse(row.content),
  delay: Number(row.delay),
  scheduledAt: Number(row.scheduled_at),
  finalisedAt: row.finalised_at === null ? undefined : Number(row.finalised_at),
  eventId: (row.event_id as EventId | null) ?? undefined,
  error: row.error === null ? undefined : JSON.parse(row.error)
})

/** An event that was scheduled so much later than now, in ms, counts as scheduled now: the clock was set back. */
const clockTolerance = 5_000

/** The wait of an event that could not be sent, in ms. */
const shortestRetry = 1_000
const longestRetry = 60_000

export class DelayedEventStore extends Context.Service<
  DelayedEventStore,
  {
    /**
     * Schedules an event, or finds the one of the same request. Undefined if the user already has `limits.scheduled` scheduled
     * events. Deletes the oldest finalised events of a user with more than `limits.finalised`. Signals work of
     * the kind `delayed events`.
     */
    readonly schedule: (
      event: NewDelayedEvent,
      limits: { readonly scheduled: number; readonly finalised: number }
    ) => Effect.Effect<Option.Option<string>>
    /** The delay ID of the event that a request has scheduled. */
    readonly scheduledAs: (tokenId: number, txnKey: string) => Effect.Effect<Option.Option<string>>
    readonly find: (delayId: string) => Effect.Effect<Option.Option<DelayedEvent>>
    /** The scheduled events of a user, the earliest first. */
    readonly scheduledBy: (userId: UserId) => Effect.Effect<ReadonlyArray<DelayedEvent>>
    /** Restarts the delay. False for an event that is being sent, or finalised. */
    readonly restart: (delayId: string) => Effect.Effect<boolean>
    /** Cancels an event. False for one that is being sent, or finalised. */
    readonly cancel: (delayId: string) => Effect.Effect<boolean>
    /** Makes an event due now. False for one that is finalised. */
    readonly sendNow: (delayId: string) => Effect.Effect<boolean>
    /** Undoes `sendNow` for an event that was not sent: it waits for its time again. */
    readonly postpone: (event: DelayedEvent) => Effect.Effect<void>
    /**
     * An event that is `sending` could not be sent now: it is due again after a wait, which grows with the time for which it is
     * overdue, from a second to a minute.
     */
    readonly retryLater: (event: DelayedEvent) => Effect.Effect<void>
    /** False for an event that is finalised already. */
    readonly finalise: (delayId: string, outcome: DelayedOutcome) => Effect.Effect<boolean>
    /** Cancels all scheduled events of a user. */
    readonly cancelAll: (userId: UserId) => Effect.Effect<void>
    /**
     * Claims the due events, the earliest first, which become `sending`. Events that are `sending` already are returned too, because
     * their claimer may have stopped.
     */
    readonly takeDue: (limit: number) => Effect.Effect<ReadonlyArray<DelayedEvent>>
    /** When the next event is due. */
    readonly nextAt: Effect.Effect<number | undefined>
    /** Deletes events that were finalised before a time. */
    readonly forget: (before: number) => Effect.Effect<void>
  }
>()("greenroom/store/DelayedEventStore") {
  static readonly layer = Layer.effect(
    DelayedEventStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const scheduledAs = (tokenId: number, txnKey: string) =>
        sql<{ delay_id: string }>`
          SELECT delay_id FROM delayed_events WHERE token_id = ${tokenId} AND txn_key = ${txnKey}`.pipe(
          Effect.map(([row]) => Option.map(Option.fromNullishOr(row), ({ delay_id }) => delay_id)),
          Effect.orDie
        )

      const schedule: DelayedEventStore["Service"]["schedule"] = Effect.fnUntraced(function* (event, limits) {
        const now = yield* Clock.currentTimeMillis
        const { content, delay, delayId, roomId, stateKey, tokenId, txnKey, type, userId } = event
        const known = yield* scheduledAs(tokenId, txnKey)
        if (Option.isSome(known)) return known
        const scheduled = sql<{ delay_id: string }>`
          WITH surplus AS (DELETE FROM delayed_events WHERE delay_id IN (
            SELECT delay_id FROM delayed_events WHERE user_id = ${userId} AND finalised_at IS NOT NULL
            ORDER BY finalised_at DESC OFFSET ${limits.finalised}))
          INSERT INTO delayed_events
            (delay_id, user_id, token_id, txn_key, room_id, type, state_key, content, delay, scheduled_at)
          SELECT ${delayId}, ${userId}, ${tokenId}, ${txnKey}, ${roomId}, ${type}, ${stateKey ?? null},
                 ${JSON.stringify(content)}, ${delay}, ${now}
          WHERE (SELECT count(*) FROM delayed_events WHERE user_id = ${userId} AND finalised_at IS NULL) < ${limits.scheduled}
          ON CONFLICT (token_id, txn_key) DO UPDATE SET type = excluded.type
          RETURNING delay_id`
        const [row] = yield* counted(sql)(`delayed events ${userId}`)(
          Effect.tap(scheduled, () => signalWork(sql, "delayed events"))
        )
        return Option.map(Option.fromNullishOr(row), ({ delay_id }) => delay_id)
      }, Effect.orDie)

      const finalise = Effect.fn("DelayedEventStore.finalise")(function* (
        delayId: string,
        { error, eventId }: DelayedOutcome
      ) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql`
          UPDATE delayed_events SET finalised_at = ${now}, event_id = ${eventId ?? null},
            error = ${error === undefined ? null : JSON.stringify(error)}
          WHERE delay_id = ${delayId} AND finalised_at IS NULL RETURNING 1`
        return rows.length > 0
      }, Effect.orDie)

      /** Whether an update finds its row. */
      const changes = (update: (now: number) => Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
        Clock.currentTimeMillis.pipe(
          Effect.flatMap(update),
          Effect.map((rows) => rows.length > 0),
          Effect.orDie
        )

      return DelayedEventStore.of({
        schedule,
        scheduledAs,
        find: (delayId) =>
          sql<Row>`SELECT * FROM delayed_events WHERE delay_id = ${delayId}`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), toEvent)),
            Effect.orDie
          ),
        scheduledBy: (userId) =>
          sql<Row>`
            SELECT * FROM delayed_events WHERE user_id = ${userId} AND finalised_at IS NULL
            ORDER BY scheduled_at + delay`.pipe(
            Effect.map((rows) => rows.map(toEvent)),
            Effect.orDie
          ),
        restart: (delayId) =>
          changes(
            (now) => sql`
              UPDATE delayed_events SET scheduled_at = ${now}
              WHERE delay_id = ${delayId} AND finalised_at IS NULL AND NOT sending RETURNING 1`
          ),
        cancel: (delayId) =>
          changes(
            (now) => sql`
              UPDATE delayed_events SET finalised_at = ${now}
              WHERE delay_id = ${delayId} AND finalised_at IS NULL AND NOT sending RETURNING 1`
          ),
        sendNow: (delayId) =>
          changes(
            (now) => sql`
              UPDATE delayed_events SET sending = true, scheduled_at = least(scheduled_at, ${now} - delay), retry_at = NULL
              WHERE delay_id = ${delayId} AND finalised_at IS NULL RETURNING 1`
          ),
        postpone: ({ delayId, scheduledAt }) =>
          sql`
            UPDATE delayed_events SET sending = false, scheduled_at = ${scheduledAt}, retry_at = NULL
            WHERE delay_id = ${delayId} AND finalised_at IS NULL`.pipe(Effect.asVoid, Effect.orDie),
        retryLater: ({ delay, delayId, scheduledAt }) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const wait = Math.min(longestRetry, Math.max(shortestRetry, now - scheduledAt - delay))
            return sql`UPDATE delayed_events SET retry_at = ${now + wait} WHERE delay_id = ${delayId}`.pipe(
              Effect.asVoid,
              Effect.orDie
            )
          }),
        finalise,
        cancelAll: (userId) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            sql`
              UPDATE delayed_events SET finalised_at = ${now}
              WHERE user_id = ${userId} AND finalised_at IS NULL`.pipe(Effect.asVoid, Effect.orDie)
          ),
        takeDue: (limit) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            sql<Row>`
              WITH set_back AS (
                UPDATE delayed_events SET scheduled_at = ${now}, retry_at = NULL
                WHERE finalised_at IS NULL AND scheduled_at > ${now + clockTolerance})
              UPDATE delayed_events SET sending = true WHERE delay_id IN (
                SELECT delay_id FROM delayed_events WHERE finalised_at IS NULL AND greatest(scheduled_at + delay, retry_at) <= ${now}
                ORDER BY greatest(scheduled_at + delay, retry_at) LIMIT ${limit} FOR UPDATE SKIP LOCKED)
              RETURNING *`.pipe(
              Effect.map((rows) => rows.map(toEvent).sort((a, b) => a.scheduledAt + a.delay - b.scheduledAt - b.delay)),
              Effect.orDie
            )
          ),
        nextAt: sql<{ at: bigint | null }>`
          SELECT min(greatest(scheduled_at + delay, retry_at)) AS at FROM delayed_events WHERE finalised_at IS NULL`.pipe(
          Effect.map(([row]) => (row?.at == null ? undefined : Number(row.at))),
          Effect.orDie
        ),
        forget: (before) =>
          sql`DELETE FROM delayed_events WHERE finalised_at < ${before}`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
