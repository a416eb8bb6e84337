/**
 * Auth chains of state events: `EventLog` writes their edges as rows, and one recursive query reads a chain.
 *
 * An error of the database is a defect.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { readWhole, runningBytes, type SizedRow, sizedBody } from "./LargeReads.ts"
import { texts } from "./PgArrays.ts"

/** The auth events of events, by event ID. */
export type StoredAuthEdges = ReadonlyMap<EventId, ReadonlyArray<EventId>>

/** How many events are parsed before other work may run. */
const parsedAtOnce = 500

export class AuthChainStore extends Context.Service<
  AuthChainStore,
  {
    /** The auth events of the events and of their whole auth chains, without events that are not stored. */
    readonly edges: (ids: ReadonlyArray<EventId>) => Effect.Effect<StoredAuthEdges>
    /**
     * The state events that have one of the given events among their auth events, with those auth events. The given events are left
     * out.
     */
    readonly restingOn: (ids: ReadonlyArray<EventId>) => Effect.Effect<StoredAuthEdges>
    /** Earlier power levels of power levels events: those among their auth events, recursively. */
    readonly powerLevelsBefore: (ids: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyArray<Event>>
    /** The auth chains of the events, without the events themselves. */
    readonly events: (ids: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyArray<Event>>
  }
>()("greenroom/store/AuthChainStore") {
  static readonly layer = Layer.effect(
    AuthChainStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const chainOf = (ids: ReadonlyArray<EventId>) => sql`
        WITH RECURSIVE chain (nid) AS (
          SELECT nid FROM events WHERE event_id = ANY (${texts(ids)}::text[])
          UNION
          SELECT edge.auth_nid FROM chain CROSS JOIN LATERAL (
            SELECT auth_nid FROM event_auth WHERE event_nid = chain.nid OFFSET 0
          ) AS edge
        )`

      const edges = Effect.fnUntraced(function* (ids: ReadonlyArray<EventId>) {
        if (ids.length === 0) return new Map<EventId, ReadonlyArray<EventId>>()
        const rows = yield* sql<{ nid: bigint; event_id: string; auth_nids: ReadonlyArray<bigint> }>`
          ${chainOf(ids)}
          SELECT chain.nid, found.event_id,
            ARRAY(SELECT auth_nid FROM event_auth WHERE event_nid = chain.nid) AS auth_nids
          FROM chain CROSS JOIN LATERAL (SELECT event_id FROM events WHERE events.nid = chain.nid OFFSET 0) AS found`
        const idOf = new Map(rows.map((row) => [row.nid, row.event_id as EventId]))
        return new Map(rows.map((row) => [row.event_id as EventId, row.auth_nids.map((nid) => idOf.get(nid)!)]))
      }, Effect.orDie)

      const restingOn = Effect.fnUntraced(function* (ids: ReadonlyArray<EventId>) {
        const found = new Map<EventId, Array<EventId>>()
        if (ids.length === 0) return found
        const rows = yield* sql<{ event_id: string; auth_id: string }>`
          WITH named AS MATERIALIZED (SELECT nid, event_id FROM events WHERE event_id = ANY (${texts(ids)}::text[]))
          SELECT events.event_id, named.event_id AS auth_id
          FROM named
          CROSS JOIN LATERAL (
            SELECT event_nid FROM event_auth WHERE auth_nid = named.nid AND event_nid NOT IN (SELECT nid FROM named) OFFSET 0
          ) AS edge
          CROSS JOIN LATERAL (SELECT event_id FROM events WHERE events.nid = edge.event_nid OFFSET 0) AS events`
        for (const { auth_id, event_id } of rows) {
          const named = found.get(event_id as EventId)
          if (named === undefined) found.set(event_id as EventId, [auth_id as EventId])
          else named.push(auth_id as EventId)
        }
        return found
      }, Effect.orDie)

      const powerLevelsBefore = Effect.fnUntraced(function* (ids: ReadonlyArray<EventId>) {
        if (ids.length === 0) return []
        const rows = yield* sql<{ body: string }>`
          WITH RECURSIVE line (nid) AS (
            SELECT nid FROM events WHERE event_id = ANY (${texts(ids)}::text[])
            UNION
            SELECT before.nid FROM line CROSS JOIN LATERAL (
              SELECT events.nid FROM event_auth JOIN events ON events.nid = event_auth.auth_nid
              WHERE event_auth.event_nid = line.nid AND events.type = 'm.room.power_levels' OFFSET 0
            ) AS before
          )
          SELECT found.body FROM line CROSS JOIN LATERAL (
            SELECT body FROM events WHERE events.nid = line.nid OFFSET 0
          ) AS found`
        return rows.map(({ body }) => JSON.parse(body) as Event)
      }, Effect.orDie)

      const events = Effect.fnUntraced(function* (ids: ReadonlyArray<EventId>) {
        if (ids.length === 0) return []
        const rows = yield* readWhole(
          sql,
          (limit) => sql<SizedRow>`
            ${chainOf(ids)}
            SELECT sized.nid, ${sizedBody(sql)} FROM (
              SELECT events.nid, events.body, ${sql.literal(runningBytes)}
              FROM chain CROSS JOIN LATERAL (
                SELECT nid, event_id, body FROM events WHERE events.nid = chain.nid OFFSET 0
              ) AS events
              WHERE events.event_id <> ALL (${texts(ids)}::text[])
              ${limit}
            ) AS sized`
        )
        const found: Array<Event> = []
        for (const { body } of rows) {
          found.push(JSON.parse(body) as Event)
          if (found.length % parsedAtOnce === 0) yield* Effect.yieldNow
        }
        return found
      }, Effect.orDie)

      return AuthChainStore.of({ edges, restingOn, powerLevelsBefore, events })
    })
  )
}
