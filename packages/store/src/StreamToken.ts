/**
 * Positions in the log, and the stream tokens that clients have of them.
 *
 * A token is opaque to clients, valid on every node and after a restart. It has one position for all streams, beside it
 * the positions of streams that an answer has cut short, and the epoch in which it was issued: see `EventLog.isLost`.
 *
 *     t1_4711_20093_k3j9x0q2ab            everything up to (4711, 20093)
 *     t1_4711_20093_k3j9x0q2ab_p4700.3    the same, but the stream `p` only up to (4700, 3)
 */
import { Option } from "effect"

/**
 * A place in the log: all rows up to and including `(xid, nid)` are before it. `xid` is the number of the transaction that
 * committed the row, `nid` that of the row.
 */
export interface StreamPosition {
  readonly xid: number
  readonly nid: number
}

/** Before everything, also before back-filled events. */
export const beginning: StreamPosition = { xid: 0, nid: Number.MIN_SAFE_INTEGER }

/** After everything. */
export const theEnd: StreamPosition = { xid: Number.MAX_SAFE_INTEGER, nid: Number.MAX_SAFE_INTEGER }

/** After all rows that a transaction committed. */
export const endOfTransaction = (xid: number): StreamPosition => ({ xid, nid: Number.MAX_SAFE_INTEGER })

export const comparePositions = (a: StreamPosition, b: StreamPosition): number => a.xid - b.xid || a.nid - b.nid

/** The later of two positions. */
export const laterPosition = (a: StreamPosition, b: StreamPosition): StreamPosition =>
  comparePositions(a, b) >= 0 ? a : b

/** The earlier of two positions. */
export const earlierPosition = (a: StreamPosition, b: StreamPosition): StreamPosition =>
  comparePositions(a, b) <= 0 ? a : b

/** Just before the row at a position: what follows it has the row, what ends there has not. */
export const positionBefore = ({ nid, xid }: StreamPosition): StreamPosition => ({ xid, nid: nid - 1 })

/** Streams that can be cut short, by the letter that they have in tokens. */
const cutStreams = { presence: "p", toDevice: "d" } as const
export type CutStream = keyof typeof cutStreams

export interface StreamToken {
  readonly position: StreamPosition
  /** Empty in tokens from before there were epochs. */
  readonly epoch: string
  /** How far streams were read that are not as far as `position`: cut short, or read ahead. */
  readonly cut?: { readonly [stream in CutStream]?: StreamPosition }
}

const streamsByLetter = new Map(Object.entries(cutStreams).map(([stream, letter]) => [letter as string, stream]))

const pattern = /^t1_([0-9]{1,16})_(-?[0-9]{1,16})_([0-9a-z]{1,16})((?:_[a-z][0-9]{1,16}\.-?[0-9]{1,16})*)$/

/** From before there were epochs; the part after the position had a meaning for one process alone. */
const formerPattern = /^s([0-9]{1,16})_(-?[0-9]{1,16})(?:_[0-9a-z]{1,16}_[0-9]{1,16})?$/

/** The token of a position, issued in an epoch. */
export const formatToken = ({ cut = {}, epoch, position }: StreamToken): string => {
  const token = `t1_${position.xid}_${position.nid}_${epoch}`
  const parts = Object.entries(cut).map(([stream, { nid, xid }]) => `_${cutStreams[stream as CutStream]}${xid}.${nid}`)
  return token + parts.join("")
}

const position = (xid: string, nid: string): StreamPosition => ({ xid: Number(xid), nid: Number(nid) })

const isSafe = ({ nid, xid }: StreamPosition): boolean => Number.isSafeInteger(xid) && Number.isSafeInteger(nid)

const parseCut = (text: string): Option.Option<StreamToken["cut"]> => {
  const cut: { [stream in CutStream]?: StreamPosition } = {}
  for (const part of text.split("_").slice(1)) {
    const stream = streamsByLetter.get(part[0]!)
    const [xid, nid] = part.slice(1).split(".")
    const at = position(xid!, nid!)
    if (stream === undefined || !isSafe(at)) return Option.none()
    cut[stream as CutStream] = at
  }
  return Option.some(cut)
}

/** Undefined for text that is not a token of this format. `START` and `END` are not tokens here. */
export const parseToken = (text: string): Option.Option<StreamToken> => {
  const match = pattern.exec(text) ?? formerPattern.exec(text)
  if (match === null) return Option.none()
  const [, xid, nid, epoch, cut] = match
  const at = position(xid!, nid!)
  if (!isSafe(at)) return Option.none()
  if (epoch === undefined) return Option.some({ position: at, epoch: "", cut: { presence: beginning } })
  if (cut === "") return Option.some({ position: at, epoch })
  return Option.map(parseCut(cut!), (cut) => ({ position: at, epoch, cut: cut! }))
}
