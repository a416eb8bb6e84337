/**
 * The seed of random choices in tests. It is the same in every run. `GREENROOM_TEST_SEED=random npm test` takes another one and prints it,
 * so that a run can be repeated.
 */
import { randomInt } from "node:crypto"

const given = process.env.GREENROOM_TEST_SEED

/** The seed of this run. */
export const seed = given === "random" ? randomInt(2 ** 31) : Number(given ?? 20_140_814)

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export const randomNumbers = (start: number): (() => number) => {
  let state = start | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

/** Whole numbers from 0 on, below a bound. */
export type Random = (bound: number) => number

/** The same numbers for the same seed. */
export const randomFrom = (start: number): Random => {
  const next = randomNumbers(start)
  return (bound) => Math.floor(next() * bound)
}
