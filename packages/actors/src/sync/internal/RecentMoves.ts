/**
 * The latest moves (rooms that had an event, for example), in the order of the log: the newest are found without reading the
 * others. The oldest moves are dropped, so that readers further behind must read everything.
 */
import { beginning, comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"

/** How many moves are kept at least, once there were so many. */
const kept = 10_000

export class RecentMoves<A> {
  private moves: Array<{ readonly moved: A; readonly at: StreamPosition }> = []
  private forgotten = 0
  private completeFrom: StreamPosition

  constructor(completeFrom: StreamPosition = beginning) {
    this.completeFrom = completeFrom
  }

  add(moved: A, at: StreamPosition): void {
    this.moves.push({ moved, at })
    if (this.moves.length <= 2 * kept) return
    this.completeFrom = this.moves[kept - 1]!.at
    this.moves = this.moves.slice(kept)
    this.forgotten += kept
  }

  /** How many moves there were, for {@link from}. */
  get end(): number {
    return this.forgotten + this.moves.length
  }

  /** The moves since there were `count`, oldest first; undefined if they are forgotten. */
  from(count: number): ReadonlyArray<A> | undefined {
    return count < this.forgotten ? undefined : this.moves.slice(count - this.forgotten).map(({ moved }) => moved)
  }

  /** The moves after a position; undefined if some of them were dropped. */
  after(position: StreamPosition): ReadonlySet<A> | undefined {
    if (comparePositions(position, this.completeFrom) < 0) return undefined
    const found = new Set<A>()
    for (let index = this.moves.length - 1; index >= 0; index--) {
      const { at, moved } = this.moves[index]!
      if (comparePositions(at, position) <= 0) break
      found.add(moved)
    }
    return found
  }
}
