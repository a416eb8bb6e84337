/**
 * How often a server may be asked for keys. A fetch that found keys may be repeated almost at once, so that a new key is
 * found when it is needed; each fruitless fetch doubles the wait, so that others cannot make this server fetch all the time.
 *
 * Plain and synchronous, in the memory of this node. Times are in milliseconds of the monotonic clock.
 */
import { doublingWait } from "@greenroom/store/Backoff"
import { setNewest } from "@greenroom/store/BoundedMap"

/** The shortest time between two requests, also after one that was of use. */
export const shortestWait = 1_000

/** The longest. */
export const longestWait = 120_000

/** How many names are remembered. */
const capacity = 20_000

interface Entry {
  readonly at: number
  /** How many requests in a row brought nothing. */
  readonly misses: number
  /** How many requests followed each other within `longestWait`. */
  readonly count: number
}

export class FetchPace {
  private readonly entries = new Map<string, Entry>()
  private readonly burst: number

  /** The first `burst` requests after a quiet time need not wait for each other. */
  constructor(burst = 0) {
    this.burst = burst
  }

  /** Whether the one of this name may be asked at `now`. `longest` shortens the wait. */
  mayAsk(name: string, now: number, longest: number = longestWait): boolean {
    const entry = this.entries.get(name)
    if (entry === undefined || entry.count < this.burst) return true
    return now - entry.at >= Math.min(longest, doublingWait(entry.misses + 1, shortestWait, longestWait))
  }

  /** It was asked: whether that was of use. */
  asked(name: string, now: number, wasOfUse: boolean): void {
    const known = this.entries.get(name)
    const misses = wasOfUse ? 0 : (known?.misses ?? 0) + 1
    const count = known === undefined || now - known.at > longestWait ? 1 : known.count + 1
    setNewest(this.entries, name, { at: now, misses, count }, capacity)
  }
}
