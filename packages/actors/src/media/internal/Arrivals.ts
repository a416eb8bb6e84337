/**
 * Waiting for an upload that was announced. An upload to this node wakes those who wait at once; one to another node is
 * seen when they look again.
 */
import { Effect } from "effect"

/** How often to look for an upload that another node has received, in ms. */
const interval = 1_000

export class Arrivals {
  private readonly waiting = new Map<string, Set<() => void>>()

  /** Wakes those who wait for `key`. */
  arrived(key: string): void {
    const waiting = this.waiting.get(key) ?? []
    this.waiting.delete(key)
    for (const wake of waiting) wake()
  }

  /** Ends when it is time to look again: at an arrival, after the interval, or after `most` ms. */
  wait(key: string, most: number): Effect.Effect<void> {
    const arrival = Effect.callback<void>((resume) => {
      const wake = () => resume(Effect.void)
      const waiting = this.waiting.get(key) ?? new Set()
      this.waiting.set(key, waiting.add(wake))
      return Effect.sync(() => {
        waiting.delete(wake)
        if (waiting.size === 0 && this.waiting.get(key) === waiting) this.waiting.delete(key)
      })
    })
    return Effect.asVoid(Effect.timeoutOption(arrival, Math.min(interval, most)))
  }
}
