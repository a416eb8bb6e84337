/**
 * The back-off of work whose failures are counted, in a table or for each of many keys. `Supervision` repeats a single piece of work.
 */

/** The wait after so many failures in a row, in ms: `first` after one, doubled by each further one, `longest` at most. */
export const doublingWait = (failures: number, first: number, longest: number): number =>
  Math.min(longest, first * 2 ** Math.min(30, Math.max(0, failures - 1)))
