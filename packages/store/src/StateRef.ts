/**
 * The name of a state of a room (`StateStore`), and the names of the events in it.
 */
import type { EventId } from "@greenroom/protocol/Identifiers"

/** A state: the newest delta of each key in `chain` up to `seq`, over what the parents of the chain hold. */
export interface StateRef {
  readonly chain: number
  readonly seq: number
}

/** An event of a state by its two names. */
export interface StateId {
  readonly id: EventId
  readonly nid: number
}
