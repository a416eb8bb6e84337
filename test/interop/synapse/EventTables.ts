/**
 * Reads a room from the database of Synapse: PDUs, their verdicts, the state after each, and the forward extremities.
 *
 * The tables: `event_json` (PDU and internal metadata), `events` (order of arrival, outliers), `rejections`,
 * `redactions`, `event_to_state_groups`, `state_groups_state`, `state_group_edges`, `event_forward_extremities`,
 * `current_state_events`.
 */
import { DatabaseSync } from "node:sqlite"
import type { Pdu } from "./SignedJson.ts"

export interface Verdict {
  /** The reason of a rejection by the authorisation rules. */
  readonly rejected?: string
  readonly soft_failed?: true
  /** Whether it is known only as part of an auth chain or a state. */
  readonly outlier?: true
}

export interface StoredEvent {
  readonly event_id: string
  readonly pdu: Pdu
  /** Order of arrival, or less than 0 for back-filled events. */
  readonly order: number
  readonly depth: number
  readonly verdict: Verdict
  /** The event that this state event replaced. */
  readonly replaces: string | undefined
}

/** `type` and `state_key` as JSON, to event ID. */
export type StateMap = ReadonlyMap<string, string>

export const stateKeyOf = (type: string, stateKey: string): string => JSON.stringify([type, stateKey])

// biome-ignore lint/suspicious/noExplicitAny: columns are as the query names them
type Row = any

const verdictOf = (row: Row): Verdict => ({
  ...(row.reason === null ? {} : { rejected: row.reason }),
  ...(JSON.parse(row.internal_metadata).soft_failed === true ? { soft_failed: true } : {}),
  ...(row.outlier === 1 ? { outlier: true } : {})
})

const withoutUnsigned = (json: string): Pdu => {
  const { unsigned: _, ...pdu } = JSON.parse(json)
  return pdu
}

const eventRows = `
  SELECT e.event_id, e.stream_ordering, e.depth, e.outlier, j.json, j.internal_metadata, r.reason
  FROM events e JOIN event_json j USING (event_id) LEFT JOIN rejections r USING (event_id)`

export class EventTables {
  private readonly file: string
  constructor(file: string) {
    this.file = file
  }

  private query(sql: string, ...parameters: ReadonlyArray<string | number>): ReadonlyArray<Row> {
    const database = new DatabaseSync(this.file, { readOnly: true, timeout: 10_000 })
    try {
      return database.prepare(sql).all(...parameters)
    } finally {
      database.close()
    }
  }

  /** Absent, if the event is not known. */
  verdict(eventId: string): Verdict | undefined {
    const row = this.query(`${eventRows} WHERE e.event_id = ?`, eventId)[0]
    return row === undefined ? undefined : verdictOf(row)
  }

  /** Absent, if the event is not known. */
  pdu(eventId: string): Pdu | undefined {
    const row = this.query("SELECT json FROM event_json WHERE event_id = ?", eventId)[0]
    return row === undefined ? undefined : withoutUnsigned(row.json)
  }

  /** In the order of the graph. */
  events(room: string): ReadonlyArray<StoredEvent> {
    return this.query(`${eventRows} WHERE e.room_id = ? ORDER BY e.depth, e.stream_ordering`, room).map((row) => {
      return {
        event_id: row.event_id,
        pdu: withoutUnsigned(row.json),
        order: row.stream_ordering,
        depth: row.depth,
        verdict: verdictOf(row),
        replaces: JSON.parse(row.json).unsigned?.replaces_state
      }
    })
  }

  /** From the redacted event to those that redact it. */
  redactions(room: string): ReadonlyMap<string, ReadonlyArray<string>> {
    const found = new Map<string, Array<string>>()
    const sql = "SELECT event_id, redacts FROM redactions JOIN events USING (event_id) WHERE room_id = ?"
    for (const { event_id, redacts } of this.query(sql, room)) {
      found.set(redacts, [...(found.get(redacts) ?? []), event_id])
    }
    return found
  }

  /** The state after each event that is not an outlier, by event ID. */
  statesAfter(room: string): ReadonlyMap<string, StateMap> {
    const edges = new Map<number, number>(
      this.query(
        `SELECT state_group, prev_state_group FROM state_group_edges
         WHERE state_group IN (SELECT id FROM state_groups WHERE room_id = ?)`,
        room
      ).map((row) => [row.state_group, row.prev_state_group])
    )
    const deltas = new Map<number, Array<readonly [string, string]>>()
    const sql = "SELECT state_group, type, state_key, event_id FROM state_groups_state WHERE room_id = ?"
    for (const row of this.query(sql, room)) {
      const delta = deltas.get(row.state_group) ?? []
      delta.push([stateKeyOf(row.type, row.state_key), row.event_id])
      deltas.set(row.state_group, delta)
    }
    const groups = new Map<number, StateMap>()
    const group = (id: number): StateMap => {
      const known = groups.get(id)
      if (known !== undefined) return known
      const previous = edges.get(id)
      const state = new Map([...(previous === undefined ? [] : group(previous)), ...(deltas.get(id) ?? [])])
      groups.set(id, state)
      return state
    }
    const events =
      "SELECT event_id, state_group FROM event_to_state_groups JOIN events USING (event_id) WHERE room_id = ?"
    return new Map(this.query(events, room).map((row) => [row.event_id, group(row.state_group)]))
  }

  forwardExtremities(room: string): ReadonlyArray<string> {
    return this.query("SELECT event_id FROM event_forward_extremities WHERE room_id = ? ORDER BY event_id", room).map(
      (row) => row.event_id
    )
  }

  currentState(room: string): StateMap {
    const sql = "SELECT type, state_key, event_id FROM current_state_events WHERE room_id = ? ORDER BY type, state_key"
    return new Map(this.query(sql, room).map((row) => [stateKeyOf(row.type, row.state_key), row.event_id]))
  }
}
