/**
 * What this node has committed last. Who follows the event log is on the node that wrote most of it, and is given from
 * memory what it would otherwise read back. Where the numbers of our transactions follow one another no other node can have
 * written in between; elsewhere the database is asked whether others have. Bounded: what is no longer here is read like
 * the commits of others.
 */
import type { LogRows } from "../LogKind.ts"
import type { LogSlice, StreamedEvent, StreamedMembership } from "../LogSlice.ts"
import { EventStatus, type RoomCommit } from "../RoomCommit.ts"
import { comparePositions, endOfTransaction, type StreamPosition } from "../StreamToken.ts"

/** How many events are kept. A transaction without any counts as one. */
const maxEvents = 300

/** What is recalled from memory: a commit of rooms has no rows of other kinds. */
type Recalled = Pick<LogSlice, "events" | "memberships" | "rows">

const noRows: LogRows = new Map()

interface Committed {
  readonly xid: number
  readonly commits: ReadonlyArray<RoomCommit>
  readonly size: number
}

const byPosition = (a: { readonly position: StreamPosition }, b: { readonly position: StreamPosition }): number =>
  comparePositions(a.position, b.position)

const timelineOf = (xid: number, { events, placed = [], roomNid }: RoomCommit): ReadonlyArray<StreamedEvent> =>
  [...events, ...placed]
    .filter(({ status }) => status === EventStatus.timeline)
    .map(({ event, nid, stateAfter, stateBefore }) => ({
      position: { xid, nid },
      roomNid,
      event,
      ...(stateBefore === null ? {} : { states: { before: stateBefore, after: stateAfter ?? stateBefore } })
    }))

const membershipChanges = (
  xid: number,
  { memberships, roomId, roomNid }: RoomCommit
): ReadonlyArray<StreamedMembership> =>
  memberships
    .filter(({ local }) => local)
    .map(({ causedBy, membership, userId }) => ({
      position: { xid, nid: causedBy },
      roomNid,
      roomId,
      userId,
      membership
    }))

/** An event that was redacted at once is read. */
const canBeTold = ({ commits }: Committed): boolean => commits.every(({ redactions }) => redactions.length === 0)

export class RecentCommits {
  /** Oldest first. */
  private readonly committed: Array<Committed> = []
  private size = 0

  /** Notes what a transaction has committed: nothing, if all that it should have written came too late. */
  add(xid: number, commits: ReadonlyArray<RoomCommit>): void {
    if (commits.length === 0) return
    const events = commits.reduce((sum, { events, placed = [] }) => sum + events.length + placed.length, 0)
    const size = Math.max(1, events)
    this.committed.push({ xid, commits, size })
    this.size += size
    while (this.size > maxEvents) this.size -= this.committed.shift()!.size
  }

  /** The transactions after a position that are in memory. */
  after(position: StreamPosition): ReadonlyArray<number> {
    return this.committed
      .filter((committed) => committed.xid > position.xid && canBeTold(committed))
      .map(({ xid }) => xid)
  }

  /** What follows the end of a transaction, where it is ours without a gap. */
  next(position: StreamPosition): Omit<LogSlice, "complete" | "last"> | undefined {
    if (comparePositions(position, endOfTransaction(position.xid)) !== 0) return undefined
    const first = this.committed.findLastIndex(({ xid }) => xid <= position.xid) + 1
    let last = position.xid
    const told: Array<Committed> = []
    for (const committed of this.committed.slice(first)) {
      if (committed.xid !== last + 1 || !canBeTold(committed)) break
      told.push(committed)
      last = committed.xid
    }
    return told.length === 0 ? undefined : { ...this.say(told), upTo: endOfTransaction(last) }
  }

  /** What these transactions have committed. */
  tell(xids: ReadonlySet<number>): Recalled {
    return this.say(this.committed.filter(({ xid }) => xids.has(xid)))
  }

  private say(told: ReadonlyArray<Committed>): Recalled {
    return {
      events: told.flatMap(({ commits, xid }) => commits.flatMap((commit) => timelineOf(xid, commit))).sort(byPosition),
      memberships: told
        .flatMap(({ commits, xid }) => commits.flatMap((commit) => membershipChanges(xid, commit)))
        .sort(byPosition),
      rows: noRows
    }
  }
}
