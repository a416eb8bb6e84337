/**
 * The latest group commits that this node knows: its own, and those that other nodes announced (`logAnnouncements.ts`). The
 * follower of the event log is served from memory instead of reading the rows back. Where the numbers of known transactions
 * are consecutive nothing else can have been written in between; elsewhere the database is asked. Bounded: older
 * commits are read.
 */
import type { LogRow, LogRows } from "../LogKind.ts"
import type { LogSlice, StreamedEvent, StreamedMembership } from "../LogSlice.ts"
import { EventStatus, type LoggedEvent, type RoomCommit } from "../RoomCommit.ts"
import { comparePositions, endOfTransaction, laterPosition, type StreamPosition } from "../StreamToken.ts"

/** How many rows are kept, and how many characters of events. A transaction without any row counts as one. */
const maxRows = 1_000
const maxCharacters = 8 * 1024 * 1024

/** All rows that a transaction has added to the log. */
export interface CommittedRows {
  readonly events: ReadonlyArray<StreamedEvent>
  readonly memberships: ReadonlyArray<StreamedMembership>
  /** Rows of other kinds: a commit of rooms has none. */
  readonly rows?: LogRows
}

interface Committed extends CommittedRows {
  readonly xid: number
  /** How many rows, at least 1. */
  readonly size: number
  readonly characters: number
}

const byPosition = (a: { readonly position: StreamPosition }, b: { readonly position: StreamPosition }): number =>
  comparePositions(a.position, b.position)

const toStreamed = (
  xid: number,
  roomNid: number,
  { afterGap, event, nid, stateAfter, stateBefore }: LoggedEvent
): StreamedEvent => {
  const position = { xid, nid }
  // Readers that continue from the event before must look for what is missing between the two.
  if (stateBefore === null || afterGap === true) return { position, roomNid, event }
  return { position, roomNid, event, states: { before: stateBefore, after: stateAfter ?? stateBefore } }
}

const addTimeline = (replayed: Array<StreamedEvent>, xid: number, { events, placed, roomNid }: RoomCommit): void => {
  for (const logged of events) {
    if (logged.status === EventStatus.timeline) replayed.push(toStreamed(xid, roomNid, logged))
  }
  if (placed === undefined) return
  for (const logged of placed) {
    if (logged.status === EventStatus.timeline) replayed.push(toStreamed(xid, roomNid, logged))
  }
}

const addChanges = (replayed: Array<StreamedMembership>, xid: number, commit: RoomCommit): void => {
  const { memberships, roomId, roomNid } = commit
  for (const { causedBy, local, membership, userId } of memberships) {
    if (local) replayed.push({ position: { xid, nid: causedBy }, roomNid, roomId, userId, membership })
  }
}

/** An event that was redacted at once is read. */
export const isReplayable = (commits: ReadonlyArray<RoomCommit>): boolean =>
  commits.every(({ redactions }) => redactions.length === 0)

/** The rows that commits of rooms have added to the log in a transaction. */
export const rowsOfCommits = (xid: number, commits: ReadonlyArray<RoomCommit>): CommittedRows => {
  const events: Array<StreamedEvent> = []
  const memberships: Array<StreamedMembership> = []
  for (const commit of commits) {
    addTimeline(events, xid, commit)
    if (commit.memberships.length > 0) addChanges(memberships, xid, commit)
  }
  return { events, memberships }
}

const noRows: LogRows = new Map()

const sizeOf = ({ events, rows = noRows }: CommittedRows): number => {
  let size = events.length
  for (const ofKind of rows.values()) size += ofKind.length
  return Math.max(1, size)
}

/** The rows of other kinds that transactions have added, in the order of their positions. */
const otherRowsOf = (committed: ReadonlyArray<Committed>): LogRows => {
  const found = new Map<string, Array<LogRow<never>>>()
  for (const { rows = noRows } of committed) {
    for (const [table, ofKind] of rows) {
      const before = found.get(table)
      if (before === undefined) found.set(table, [...ofKind])
      else before.push(...ofKind)
    }
  }
  for (const ofKind of found.values()) ofKind.sort(byPosition)
  return found.size === 0 ? noRows : found
}

/** The position of the last event or row of another kind. */
const lastOf = (events: ReadonlyArray<StreamedEvent>, rows: LogRows): StreamPosition | undefined => {
  let last = events.at(-1)?.position
  for (const ofKind of rows.values()) {
    const { position } = ofKind.at(-1)!
    last = last === undefined ? position : laterPosition(last, position)
  }
  return last
}

/** The first of these transactions, as many as have `limit` rows together. */
const upToLimit = (committed: ReadonlyArray<Committed>, limit: number): ReadonlyArray<Committed> => {
  let rows = 0
  const cut = committed.findIndex(({ size }) => {
    rows += size
    return rows > limit
  })
  return cut === -1 ? committed : committed.slice(0, cut)
}

export class RecentCommits {
  /** Oldest first. */
  private readonly committed: Array<Committed> = []
  private size = 0
  private characters = 0

  /** Records what a transaction has added to the log. `characters` is the length of all its events. */
  add(xid: number, added: CommittedRows, characters: number): void {
    const before = this.committed.findLastIndex((committed) => committed.xid <= xid)
    if (this.committed[before]?.xid === xid) return
    const size = sizeOf(added)
    this.committed.splice(before + 1, 0, { ...added, xid, size, characters })
    this.size += size
    this.characters += characters
    while (this.size > maxRows || this.characters > maxCharacters) {
      const oldest = this.committed.shift()!
      this.size -= oldest.size
      this.characters -= oldest.characters
    }
  }

  /** Forgets all transactions. */
  clear(): void {
    this.committed.length = 0
    this.size = 0
    this.characters = 0
  }

  /** The transactions after a position that are in memory. */
  after(position: StreamPosition): ReadonlyArray<number> {
    return this.committed.filter(({ xid }) => xid > position.xid).map(({ xid }) => xid)
  }

  /** Whether later transactions are known, but not the next one. */
  hasGapAfter(position: StreamPosition): boolean {
    const next = this.committed.find(({ xid }) => xid > position.xid)
    return next !== undefined && next.xid > position.xid + 1
  }

  /** The rows after the end of a transaction, if they are known without a gap, up to `limit`. */
  next(position: StreamPosition, limit: number): LogSlice | undefined {
    if (comparePositions(position, endOfTransaction(position.xid)) !== 0) return undefined
    const first = this.committed.findLastIndex(({ xid }) => xid <= position.xid) + 1
    let last = position.xid
    const following: Array<Committed> = []
    for (const committed of this.committed.slice(first)) {
      if (committed.xid !== last + 1) break
      following.push(committed)
      last = committed.xid
    }
    return this.sliceOf(following, limit)
  }

  /** The rows that these transactions have committed, up to `limit`. */
  replay(xids: ReadonlySet<number>, limit: number): LogSlice | undefined {
    return this.sliceOf(
      this.committed.filter(({ xid }) => xids.has(xid)),
      limit
    )
  }

  /** Undefined if the first of them has more rows than the limit. */
  private sliceOf(committed: ReadonlyArray<Committed>, limit: number): LogSlice | undefined {
    const replayed = upToLimit(committed, limit)
    if (replayed.length === 0) return undefined
    const events = replayed.flatMap(({ events }) => events).sort(byPosition)
    const rows = otherRowsOf(replayed)
    return {
      events,
      memberships: replayed.flatMap(({ memberships }) => memberships).sort(byPosition),
      rows,
      last: lastOf(events, rows),
      upTo: endOfTransaction(replayed.at(-1)!.xid),
      complete: replayed.length === committed.length
    }
  }
}
