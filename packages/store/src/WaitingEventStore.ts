/**
 * Events of other servers that cannot be placed, because no server has returned what precedes them. They are kept until they are placed,
 * or for a week. Of more than a bound the newest are kept: the server that sent them names the older ones as their predecessors.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { dueAt } from "./internal/dueAt.ts"
import { integers, textArrayLiteral, texts } from "./PgArrays.ts"
import { signalWork } from "./WorkSignals.ts"

export interface WaitingEvent {
  readonly event: Event
  /** The server that sent it. */
  readonly origin: ServerName
  /** When it was received first. */
  readonly since: number
}

/** The most events that one server has sent to one room, the most bytes of all events of one server, and of all servers. */
export const maxEvents = 100
export const maxBytesOfOrigin = 1024 * 1024
export const maxBytes = 16 * 1024 * 1024

const keptFor = 7 * 24 * 3_600_000

/** The wait before the first attempt, and before any other, in ms. */
const firstWait = 60_000
const longestWait = 6 * 3_600_000

interface Row {
  readonly event: string
  readonly origin: string
  readonly since: bigint
}

const toWaiting = (row: Row): WaitingEvent => ({
  event: JSON.parse(row.event) as Event,
  origin: row.origin as ServerName,
  since: Number(row.since)
})

export class WaitingEventStore extends Context.Service<
  WaitingEventStore,
  {
    /** Keeps events that a server has sent, within the bounds. Signals work of the kind `waiting events`. */
    readonly keep: (roomId: RoomId, origin: ServerName, events: ReadonlyArray<Event>) => Effect.Effect<void>
    /** Whether events of the room wait. */
    readonly hasAny: (roomId: RoomId) => Effect.Effect<boolean>
    /** The events of the room that name one of these as their predecessor or as an auth event, oldest first. */
    readonly after: (roomId: RoomId, ids: Iterable<EventId>) => Effect.Effect<ReadonlyArray<WaitingEvent>>
    readonly remove: (roomId: RoomId, ids: Iterable<EventId>) => Effect.Effect<void>
    /**
     * The events that are due for another attempt, or all of them, oldest first; what is older than a week, and the oldest beyond the bound
     * on all bytes, is forgotten. Each is due again after a wait as long as it has waited so far, 6 hours at most, unless it is removed.
     */
    readonly take: (which: "due" | "all") => Effect.Effect<ReadonlyArray<WaitingEvent>>
    /** When the next one is due. */
    readonly nextAt: Effect.Effect<number | undefined>
  }
>()("greenroom/store/WaitingEventStore") {
  static readonly layer = Layer.effect(
    WaitingEventStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const insert = (roomId: RoomId, origin: ServerName, events: ReadonlyArray<Event>, now: number) => {
        const bodies = events.map((event) => JSON.stringify(event))
        const follows = events.map(({ auth_events, prev_events }) => textArrayLiteral([...prev_events, ...auth_events]))
        return sql`
          INSERT INTO waiting_events (room_id, event_id, origin, event, bytes, follows, since, retry_at)
          SELECT ${roomId}, event_id, ${origin}, event, bytes, follows::text[], ${now}, ${now + firstWait}
          FROM unnest(
            ${texts(events.map((event) => event.event_id))}::text[], ${texts(bodies)}::text[],
            ${integers(bodies.map((body) => Buffer.byteLength(body)))}::integer[], ${texts(follows)}::text[]
          ) WITH ORDINALITY AS given (event_id, event, bytes, follows, position)
          ORDER BY position
          ON CONFLICT (room_id, event_id) DO NOTHING
          RETURNING 1`
      }

      /** Forgets the oldest events of a server beyond its bounds. */
      const trim = (origin: ServerName) => sql`
        DELETE FROM waiting_events WHERE (room_id, event_id) IN (
          SELECT room_id, event_id FROM (
            SELECT room_id, event_id, count(*) OVER (PARTITION BY room_id ORDER BY id DESC) AS number,
              sum(bytes) OVER (ORDER BY id DESC) AS bytes
            FROM waiting_events WHERE origin = ${origin}) AS counted
          WHERE number > ${maxEvents} OR bytes > ${maxBytesOfOrigin})`

      const keep = Effect.fnUntraced(function* (roomId: RoomId, origin: ServerName, events: ReadonlyArray<Event>) {
        const now = yield* Clock.currentTimeMillis
        if ((yield* insert(roomId, origin, events, now)).length === 0) return
        yield* trim(origin)
        yield* signalWork(sql, "waiting events")
      }, sql.withTransaction)

      const take = Effect.fnUntraced(function* (which: "due" | "all") {
        const now = yield* Clock.currentTimeMillis
        yield* sql`DELETE FROM waiting_events WHERE since < ${now - keptFor}`
        yield* sql`
          DELETE FROM waiting_events WHERE (room_id, event_id) IN (
            SELECT room_id, event_id FROM (
              SELECT room_id, event_id, sum(bytes) OVER (ORDER BY id DESC) AS bytes FROM waiting_events) AS counted
            WHERE bytes > ${maxBytes})`
        const rows = yield* sql<Row & { readonly id: bigint }>`
          UPDATE waiting_events SET since = least(since, ${now}),
            retry_at = ${now}::bigint + least(${longestWait}::bigint, greatest(${firstWait}::bigint, ${now}::bigint - since))
          WHERE ${which === "all"} OR ${dueAt(sql, now, longestWait)} <= ${now} OR since > ${now}
          RETURNING id, event, origin, since`
        return rows.toSorted((a, b) => Number(a.id - b.id)).map(toWaiting)
      })

      const idsOf = (ids: Iterable<EventId>) => texts([...ids])

      return WaitingEventStore.of({
        keep: (roomId, origin, events) => Effect.orDie(keep(roomId, origin, events)),
        hasAny: (roomId) =>
          sql`SELECT 1 FROM waiting_events WHERE room_id = ${roomId} LIMIT 1`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          ),
        after: (roomId, ids) =>
          sql<Row>`
            SELECT event, origin, since FROM waiting_events
            WHERE room_id = ${roomId} AND follows && ${idsOf(ids)}::text[] ORDER BY id`.pipe(
            Effect.map((rows) => rows.map(toWaiting)),
            Effect.orDie
          ),
        remove: (roomId, ids) =>
          sql`DELETE FROM waiting_events WHERE room_id = ${roomId} AND event_id = ANY (${idsOf(ids)}::text[])`.pipe(
            Effect.asVoid,
            Effect.orDie
          ),
        take: (which) => Effect.orDie(take(which)),
        nextAt: Clock.currentTimeMillis.pipe(
          Effect.flatMap(
            (now) => sql<{ at: bigint | null }>`SELECT min(${dueAt(sql, now, longestWait)}) AS at FROM waiting_events`
          ),
          Effect.map(([row]) => (row?.at == null ? undefined : Number(row.at))),
          Effect.orDie
        )
      })
    })
  )
}
