/**
 * Stream tokens: where a reader is in the event log and in the ephemeral streams (presence, typing).
 *
 * A token is opaque to clients, valid on every node and after a restart. The position in the ephemeral streams belongs
 * to one run of one node (`incarnation`); elsewhere it counts as "nothing seen", and the reader gets what is the case
 * now, which is all that an ephemeral stream promises.
 */
import { Option } from "effect"

/**
 * A place in the event log: all events up to and including `(xid, nid)` are before it. `xid` is the number of the
 * transaction that committed the event, `nid` that of the event.
 */
export interface StreamPosition {
  readonly xid: number
  readonly nid: number
}

/** Before everything, also before what was back-filled. */
export const beginning: StreamPosition = { xid: 0, nid: Number.MIN_SAFE_INTEGER }

/** After all events that a transaction committed. */
export const endOfTransaction = (xid: number): StreamPosition => ({ xid, nid: Number.MAX_SAFE_INTEGER })

export const comparePositions = (a: StreamPosition, b: StreamPosition): number => a.xid - b.xid || a.nid - b.nid

export interface StreamToken {
  readonly position: StreamPosition
  /** The run of a node that counted `ephemeral`; empty where none did. */
  readonly incarnation: string
  readonly ephemeral: number
}

const pattern = /^s([0-9]{1,16})_(-?[0-9]{1,16})(?:_([0-9a-z]{1,16})_([0-9]{1,16}))?$/

export const formatToken = (token: StreamToken): string =>
  token.incarnation === ""
    ? formatPosition(token.position)
    : `s${token.position.xid}_${token.position.nid}_${token.incarnation}_${token.ephemeral}`

/** The token of a place in the event log alone, as pagination uses it. */
export const formatPosition = (position: StreamPosition): string => `s${position.xid}_${position.nid}`

/** None for anything that no server of ours can have given out. `START` and `END` are not tokens here. */
export const parseToken = (text: string): Option.Option<StreamToken> => {
  const match = pattern.exec(text)
  if (match === null) return Option.none()
  const token = {
    position: { xid: Number(match[1]), nid: Number(match[2]) },
    incarnation: match[3] ?? "",
    ephemeral: Number(match[4] ?? 0)
  }
  return [token.position.xid, token.position.nid, token.ephemeral].every(Number.isSafeInteger)
    ? Option.some(token)
    : Option.none()
}
