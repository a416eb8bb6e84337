/**
 * PDUs of rooms of ours whose signatures could not be checked yet, because the keys of a server were missing. They are
 * kept until the keys are known, or until they are too old. The copy of each server that sent a PDU is kept: those of some may be forged.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import { parse as parseExact } from "@greenroom/protocol/ExactJson"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { bigints, texts } from "./PgArrays.ts"
import { signalWork } from "./WorkSignals.ts"

/** A PDU, and whose keys are missing. */
export interface UnverifiedPdu {
  readonly roomId: RoomId
  readonly eventId: EventId
  /** The server whose keys are missing. */
  readonly signer: ServerName
  readonly pdu: JsonObject
}

export interface KeptPdu extends UnverifiedPdu {
  readonly id: number
  /** The server that sent it. */
  readonly origin: ServerName
}

/** The most PDUs that are kept of one sending server, and the most bytes of all of them. */
const maxPdus = 1_000
const maxBytes = 8 * 1024 * 1024

interface Row {
  readonly id: bigint
  readonly room_id: string
  readonly event_id: string
  readonly signer: string
  readonly origin: string
  readonly pdu: string
}

const toKept = (row: Row): KeptPdu => ({
  id: Number(row.id),
  roomId: row.room_id as RoomId,
  eventId: row.event_id as EventId,
  signer: row.signer as ServerName,
  origin: row.origin as ServerName,
  pdu: parseExact(row.pdu) as JsonObject
})

export class UnverifiedPduStore extends Context.Service<
  UnverifiedPduStore,
  {
    /**
     * Keeps PDUs that a server sent, up to a bound. Returns the IDs of those of its events that are kept now,
     * those that were kept before among them. Signals work of the kind `unverified PDUs`.
     */
    readonly keep: (origin: ServerName, pdus: ReadonlyArray<UnverifiedPdu>) => Effect.Effect<ReadonlySet<EventId>>
    /** The servers for whose keys PDUs wait, at most `limit`. */
    readonly signers: (limit: number) => Effect.Effect<ReadonlyArray<ServerName>>
    /** The PDUs after that number which wait for the keys of a server, oldest first, at most `limit`. */
    readonly waitingFor: (signer: ServerName, after: number, limit: number) => Effect.Effect<ReadonlyArray<KeptPdu>>
    readonly remove: (ids: ReadonlyArray<number>) => Effect.Effect<void>
    /** Forgets what came before that time. */
    readonly forget: (before: number) => Effect.Effect<void>
  }
>()("greenroom/store/UnverifiedPduStore") {
  static readonly layer = Layer.effect(
    UnverifiedPduStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const keep = Effect.fnUntraced(function* (origin: ServerName, pdus: ReadonlyArray<UnverifiedPdu>) {
        const now = yield* Clock.currentTimeMillis
        const ids = texts(pdus.map((unverifiedPdu) => unverifiedPdu.eventId))
        const roomIds = texts(pdus.map((unverifiedPdu) => unverifiedPdu.roomId))
        const keeping = sql`
          WITH present AS (
            SELECT count(*) AS pdus, coalesce(sum(octet_length(pdu)), 0) AS bytes
            FROM unverified_pdus WHERE origin = ${origin})
          INSERT INTO unverified_pdus (room_id, event_id, signer, origin, pdu, received_at)
          SELECT room_id, event_id, signer, ${origin}, pdu, ${now} FROM (
            SELECT given.*, count(*) OVER so_far AS pdus, sum(octet_length(pdu)) OVER so_far AS bytes
            FROM unnest(
              ${roomIds}::text[], ${ids}::text[],
              ${texts(pdus.map((unverifiedPdu) => unverifiedPdu.signer))}::text[],
              ${texts(pdus.map((unverifiedPdu) => JSON.stringify(unverifiedPdu.pdu)))}::text[]
            ) WITH ORDINALITY AS given (room_id, event_id, signer, pdu, place)
            WINDOW so_far AS (ORDER BY place)
          ) AS given, present
          WHERE present.pdus + given.pdus <= ${maxPdus}::bigint AND present.bytes + given.bytes <= ${maxBytes}::bigint
          ON CONFLICT (room_id, event_id, origin) DO UPDATE SET signer = excluded.signer`
        yield* sql.withTransaction(Effect.andThen(keeping, signalWork(sql, "unverified PDUs")))
        const rows = yield* sql<{ event_id: string }>`
          SELECT event_id FROM unverified_pdus
          JOIN unnest(${roomIds}::text[], ${ids}::text[]) AS given (room_id, event_id) USING (room_id, event_id)
          WHERE origin = ${origin}`
        return new Set(rows.map((row) => row.event_id as EventId))
      }, Effect.orDie)

      const kept = (rows: Effect.Effect<ReadonlyArray<Row>, unknown>) =>
        Effect.orDie(Effect.map(rows, (found) => found.map(toKept)))

      return UnverifiedPduStore.of({
        keep: (origin, pdus) => (pdus.length === 0 ? Effect.succeed(new Set()) : keep(origin, pdus)),
        signers: (limit) =>
          sql<{ signer: string }>`SELECT DISTINCT signer FROM unverified_pdus LIMIT ${limit}`.pipe(
            Effect.map((rows) => rows.map((row) => row.signer as ServerName)),
            Effect.orDie
          ),
        waitingFor: (signer, after, limit) =>
          kept(sql<Row>`
            SELECT * FROM unverified_pdus WHERE signer = ${signer} AND id > ${after} ORDER BY id LIMIT ${limit}`),
        remove: (ids) =>
          sql`DELETE FROM unverified_pdus WHERE id = ANY (${bigints(ids)}::bigint[])`.pipe(Effect.asVoid, Effect.orDie),
        forget: (before) =>
          sql`DELETE FROM unverified_pdus WHERE received_at < ${before}`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
