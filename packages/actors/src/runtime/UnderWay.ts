/**
 * Work that counts against a bound before it is stored: requests of a user that run at the same time do not pass the bound together.
 * Counts are those of this node.
 */
import { Effect } from "effect"

/** Runs work of a key. It is given how much other work of the same key is under way. */
export type UnderWay = <A, E, R>(
  key: string,
  work: (others: number) => Effect.Effect<A, E, R>
) => Effect.Effect<A, E, R>

export const makeUnderWay = (): UnderWay => {
  const counts = new Map<string, number>()
  return (key, work) =>
    Effect.suspend(() => {
      const others = counts.get(key) ?? 0
      counts.set(key, others + 1)
      const end = Effect.sync(() => {
        const left = counts.get(key)! - 1
        if (left === 0) counts.delete(key)
        else counts.set(key, left)
      })
      return Effect.ensuring(
        Effect.suspend(() => work(others)),
        end
      )
    })
}
