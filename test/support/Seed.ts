/**
 * The seed of what a test chooses at random. It is told, so that a run can be repeated: `GREENROOM_TEST_SEED=123 npm test`.
 */
import { randomInt } from "node:crypto"

const given = process.env.GREENROOM_TEST_SEED

/** The seed of this run. */
export const seed = given === undefined ? randomInt(2 ** 31) : Number(given)

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
