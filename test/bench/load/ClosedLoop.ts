/**
 * A closed loop: each worker sends its next request as soon as the last one is answered. The warm-up, in which programs are
 * compiled, is not counted. At least one answer for each worker is.
 */
import { type Percentiles, percentiles } from "../Percentiles.ts"

export interface ClosedLoop {
  /** How long answers are counted, in seconds. */
  readonly seconds: number
  /** How long the loop runs before that, in seconds. */
  readonly warmUp: number
}

export interface Throughput extends Percentiles {
  readonly count: number
  readonly perSecond: number
}

/** Runs `ask` with the number of the worker and the number of its earlier requests. */
export const closedLoop = async (
  { seconds, warmUp }: ClosedLoop,
  workers: number,
  ask: (worker: number, turn: number) => Promise<void>
): Promise<Throughput> => {
  const times: Array<number> = []
  const begin = performance.now() + warmUp * 1_000
  const end = begin + seconds * 1_000
  const work = async (worker: number) => {
    for (let turn = 0; ; turn++) {
      const asked = performance.now()
      if (asked >= end && times.length >= workers) return
      await ask(worker, turn)
      if (asked >= begin) times.push(performance.now() - asked)
    }
  }
  await Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)))
  const passed = (performance.now() - begin) / 1_000
  return { count: times.length, perSecond: times.length / passed, ...percentiles(times) }
}
