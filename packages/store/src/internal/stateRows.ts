/**
 * States, and the events in them, as columns of rows.
 */
import type { EventId } from "@greenroom/protocol/Identifiers"
import type { StateId, StateRef } from "../StateRef.ts"

/** The state of two columns; undefined if they are null. */
export const stateRef = (chain: bigint | null, seq: number | null): StateRef | undefined =>
  chain === null ? undefined : { chain: Number(chain), seq: seq ?? 0 }

/** A key of a state with its event. */
export interface StateIdRow {
  readonly type: string
  readonly state_key: string
  /** Null if the key was removed. */
  readonly nid: bigint | null
  readonly event_id: string | null
}

export const toStateId = (row: StateIdRow): StateId => ({ id: row.event_id as EventId, nid: Number(row.nid) })
