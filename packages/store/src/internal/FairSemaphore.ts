/**
 * A semaphore whose permits go to those who got one least recently. With `PartitionedSemaphore` of Effect owners get permits in turn: a new
 * one waits for all others, however often these have had a permit before.
 */
import { Effect } from "effect"
import { setNewest } from "../BoundedMap.ts"

/** Who got one of so many last permits comes after those who did not. Longer ago counts as never: new names come in any number. */
const remembered = 100

interface Waiter {
  readonly owner: string
  /** The number of a permit that was given `remembered` permits before the owner came. */
  readonly since: number
  readonly grant: () => void
}

export class FairSemaphore {
  private free: number
  /** How many permits were given. */
  private given = 0
  /** The number of the last permit of each owner. */
  private readonly last = new Map<string, number>()
  /** In the order of their coming. */
  private readonly waiting = new Set<Waiter>()

  constructor(permits: number) {
    this.free = permits
  }

  /** Waits for a permit. `granted` is called at the moment from which it has to be released. */
  take(owner: string, granted: () => void): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.takeNow(owner)) return this.wait(owner, granted)
      granted()
      return Effect.void
    })
  }

  /** Takes a permit if one is free. */
  takeNow(owner: string): boolean {
    if (this.free === 0) return false
    this.free--
    this.note(owner)
    return true
  }

  release(): void {
    const next = this.next()
    if (next === undefined) {
      this.free++
      return
    }
    this.waiting.delete(next)
    this.note(next.owner)
    next.grant()
  }

  private wait(owner: string, granted: () => void): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const grant = () => {
        granted()
        resume(Effect.void)
      }
      const waiter = { owner, since: this.given - remembered, grant }
      this.waiting.add(waiter)
      return Effect.sync(() => this.waiting.delete(waiter))
    })
  }

  private note(owner: string): void {
    setNewest(this.last, owner, ++this.given, remembered)
  }

  private next(): Waiter | undefined {
    const rankOf = ({ owner, since }: Waiter): number => Math.max(this.last.get(owner) ?? since, since)
    let first: Waiter | undefined
    for (const waiter of this.waiting) if (first === undefined || rankOf(waiter) < rankOf(first)) first = waiter
    return first
  }
}
