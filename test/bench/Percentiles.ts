/** Measured times in milliseconds. */
export interface Percentiles {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** Sorts the times. */
export const percentiles = (times: Array<number>): Percentiles => {
  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

/** The median of several runs of one measurement. */
export const median = (values: ReadonlyArray<number>): number => percentiles([...values]).p50

/** The time that a task takes, in milliseconds. */
export const timed = async (task: () => Promise<unknown>): Promise<number> => {
  const begin = performance.now()
  await task()
  return performance.now() - begin
}
