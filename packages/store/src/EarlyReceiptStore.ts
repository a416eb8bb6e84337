/**
 * Receipts of users of other servers whose events are not stored yet: the last of each user, room and thread. Each server has a
 * bounded number of them, of which the oldest are dropped first.
 *
 * An error of the database is a defect. Source: "Receipts" of the server-server specification.
 */
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { bigints, texts } from "./PgArrays.ts"

/** A receipt and the server that sent it. */
export interface EarlyReceipt {
  readonly origin: ServerName
  readonly roomId: RoomId
  readonly userId: UserId
  /** `main`, the root of a thread, or undefined for a receipt without a thread. */
  readonly threadId: string | undefined
  readonly eventId: EventId
  /** Milliseconds since 1970. */
  readonly ts: number
}

/** How many receipts of one server are kept, and how many of all servers. */
const mostOfServer = 200
const most = 5_000

/** How long a receipt is kept, in ms. */
const keptFor = 24 * 3_600_000

interface Row {
  readonly origin: string
  readonly room_id: string
  readonly user_id: string
  readonly thread_id: string
  readonly event_id: string
  readonly ts: bigint
}

const toReceipt = (row: Row): EarlyReceipt => ({
  origin: row.origin as ServerName,
  roomId: row.room_id as RoomId,
  userId: row.user_id as UserId,
  threadId: row.thread_id === "" ? undefined : row.thread_id,
  eventId: row.event_id as EventId,
  ts: Number(row.ts)
})

type Key = Pick<EarlyReceipt, "roomId" | "threadId" | "userId">

const keyOf = ({ roomId, threadId = "", userId }: Key): string => JSON.stringify([userId, roomId, threadId])

/** The columns of the primary key, as arrays. */
const keysOf = (receipts: ReadonlyArray<Key>) =>
  [
    texts(receipts.map(({ userId }) => userId)),
    texts(receipts.map(({ roomId }) => roomId)),
    texts(receipts.map(({ threadId }) => threadId ?? ""))
  ] as const

export class EarlyReceiptStore extends Context.Service<
  EarlyReceiptStore,
  {
    /** Keeps receipts, each in place of the former one of its user, room and thread. */
    readonly keep: (receipts: ReadonlyArray<EarlyReceipt>) => Effect.Effect<void>
    /** The receipts that wait for one of the events. */
    readonly waitingFor: (eventIds: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyArray<EarlyReceipt>>
    /** All receipts. Those that are too old are dropped. */
    readonly all: Effect.Effect<ReadonlyArray<EarlyReceipt>>
    /** Drops receipts, unless others have taken their places. */
    readonly remove: (receipts: ReadonlyArray<EarlyReceipt>) => Effect.Effect<void>
    /** Drops the receipts of these users, rooms and threads. */
    readonly supersede: (keys: ReadonlyArray<Key>) => Effect.Effect<void>
  }
>()("greenroom/store/EarlyReceiptStore") {
  static readonly layer = Layer.effect(
    EarlyReceiptStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal("origin, room_id, user_id, thread_id, event_id, ts")

      const bound = (origin: ServerName) => sql`
        DELETE FROM early_receipts WHERE (user_id, room_id, thread_id) IN (
          (SELECT user_id, room_id, thread_id FROM early_receipts WHERE origin = ${origin}
           ORDER BY received_at DESC OFFSET ${mostOfServer}::bigint)
          UNION ALL
          (SELECT user_id, room_id, thread_id FROM early_receipts ORDER BY received_at DESC OFFSET ${most}::bigint))`

      const keep = Effect.fnUntraced(function* (given: ReadonlyArray<EarlyReceipt>) {
        const now = yield* Clock.currentTimeMillis
        // A statement changes no row twice.
        const receipts = [...new Map(given.map((receipt) => [keyOf(receipt), receipt])).values()]
        const [userIds, roomIds, threadIds] = keysOf(receipts)
        const insert = sql`
          INSERT INTO early_receipts (user_id, room_id, thread_id, event_id, origin, ts, received_at)
          SELECT given.*, ${now} FROM unnest(
            ${userIds}::text[], ${roomIds}::text[], ${threadIds}::text[],
            ${texts(receipts.map(({ eventId }) => eventId))}::text[],
            ${texts(receipts.map(({ origin }) => origin))}::text[],
            ${bigints(receipts.map(({ ts }) => ts))}::bigint[]
          ) AS given
          ON CONFLICT (user_id, room_id, thread_id) DO UPDATE SET
            event_id = excluded.event_id, origin = excluded.origin, ts = excluded.ts, received_at = excluded.received_at`
        const origins = new Set(receipts.map(({ origin }) => origin))
        yield* sql.withTransaction(Effect.andThen(insert, Effect.forEach(origins, bound, { discard: true })))
      }, Effect.orDie)

      const waitingFor = (eventIds: ReadonlyArray<EventId>) =>
        sql<Row>`SELECT ${columns} FROM early_receipts WHERE event_id = ANY (${texts(eventIds)}::text[])`.pipe(
          Effect.map((rows) => rows.map(toReceipt)),
          Effect.orDie
        )

      const all = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        yield* sql`DELETE FROM early_receipts WHERE received_at < ${now - keptFor}`
        const rows = yield* sql<Row>`SELECT ${columns} FROM early_receipts ORDER BY received_at`
        return rows.map(toReceipt)
      }).pipe(Effect.orDie)

      const remove = (receipts: ReadonlyArray<EarlyReceipt>) => {
        const [userIds, roomIds, threadIds] = keysOf(receipts)
        return sql`
          DELETE FROM early_receipts WHERE (user_id, room_id, thread_id, event_id) IN (
            SELECT * FROM unnest(${userIds}::text[], ${roomIds}::text[], ${threadIds}::text[],
              ${texts(receipts.map(({ eventId }) => eventId))}::text[]))`.pipe(Effect.asVoid, Effect.orDie)
      }

      const supersede = (keys: ReadonlyArray<Key>) => {
        const [userIds, roomIds, threadIds] = keysOf(keys)
        return sql`
          DELETE FROM early_receipts WHERE (user_id, room_id, thread_id) IN (
            SELECT * FROM unnest(${userIds}::text[], ${roomIds}::text[], ${threadIds}::text[]))`.pipe(
          Effect.asVoid,
          Effect.orDie
        )
      }

      return EarlyReceiptStore.of({
        keep: (receipts) => (receipts.length === 0 ? Effect.void : keep(receipts)),
        waitingFor: (eventIds) => (eventIds.length === 0 ? Effect.succeed([]) : waitingFor(eventIds)),
        all,
        remove: (receipts) => (receipts.length === 0 ? Effect.void : remove(receipts)),
        supersede: (keys) => (keys.length === 0 ? Effect.void : supersede(keys))
      })
    })
  )
}
