/**
 * Counts in sentences for people.
 */

/** A count with its noun: `1 file`, `2 files`. The plural is the noun with an `s`, unless it is given. */
export const plural = (count: number | bigint, noun: string, nouns = `${noun}s`): string =>
  `${count} ${Number(count) === 1 ? noun : nouns}`
