/**
 * The latest group commits that this node knows: its own, and those that other nodes announced (`logAnnouncements.ts`). The
 * follower of the event log is served from memory instead of reading the rows back. Where the numbers of known transactions
 * are consecutive nothing else can have been written in between; elsewhere the database is asked. Bounded: older
 * commits are read.
 */
import type { LogRows } from "../LogKind.ts"
import type { LogSlice, StreamedEvent, StreamedMembership } from "../LogSlice.ts"
import { EventStatus, type LoggedEvent, type RoomCommit } from "../RoomCommit.ts"
import { comparePositions, endOfTransaction, type StreamPosition } from "../StreamToken.ts"

/** How many events are kept, and how many characters of them. A transaction without any counts as one event. */
const maxEvents = 1_000
const maxCharacters = 8 * 1024 * 1024

/** A commit of rooms has no rows of other kinds. */
const noRows: LogRows = new Map()

/** The rows that a transaction has added to the log. */
export interface CommittedRows {
  readonly events: ReadonlyArray<StreamedEvent>
  readonly memberships: ReadonlyArray<StreamedMembership>
}

interface Committed extends CommittedRows {
  readonly xid: number
  /** How many events, at least 1. */
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

/** The first of these transactions, as many as have `limit` events together. */
const upToLimit = (committed: ReadonlyArray<Committed>, limit: number): ReadonlyArray<Committed> => {
  let size = 0
  const cut = committed.findIndex((each) => {
    size += each.size
    return size > limit
  })
  return cut === -1 ? committed : committed.slice(0, cut)
}

export class RecentCommits {
  /** Oldest first. */
  private readonly committed: Array<Committed> = []
  private size = 0
  private characters = 0

  /** Records what a transaction has added to the log. `characters` is the length of all its events. */
  add(xid: number, { events, memberships }: CommittedRows, characters: number): void {
    const before = this.committed.findLastIndex((committed) => committed.xid <= xid)
    if (this.committed[before]?.xid === xid) return
    const size = Math.max(1, events.length)
    this.committed.splice(before + 1, 0, { xid, events, memberships, size, characters })
    this.size += size
    this.characters += characters
    while (this.size > maxEvents || this.characters > maxCharacters) {
      const oldest = this.committed.shift()!
      this.size -= oldest.size
      this.characters -= oldest.characters
    }
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

  /** The events after the end of a transaction, if they are known without a gap, up to `limit`. */
  next(position: StreamPosition, limit: number): Omit<LogSlice, "last"> | undefined {
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

  /** The events that these transactions have committed, up to `limit`. */
  replay(xids: ReadonlySet<number>, limit: number): Omit<LogSlice, "last"> | undefined {
    return this.sliceOf(
      this.committed.filter(({ xid }) => xids.has(xid)),
      limit
    )
  }

  /** Undefined where the first of them has more events than the limit. */
  private sliceOf(committed: ReadonlyArray<Committed>, limit: number): Omit<LogSlice, "last"> | undefined {
    const replayed = upToLimit(committed, limit)
    if (replayed.length === 0) return undefined
    return {
      events: replayed.flatMap(({ events }) => events).sort(byPosition),
      memberships: replayed.flatMap(({ memberships }) => memberships).sort(byPosition),
      rows: noRows,
      upTo: endOfTransaction(replayed.at(-1)!.xid),
      complete: replayed.length === committed.length
    }
  }
}
