/**
 * A closed loop: so many workers, each of which asks again as soon as it is answered. What happens in the first moments,
 * while programs are still being compiled, is not counted; at least one answer for each worker is.
 */
import { type Percentiles, percentiles } from "../Percentiles.ts"

export interface ClosedLoop {
  /** For how long to ask, in seconds, and for how long before that without counting. */
  readonly seconds: number
  readonly warmUp: number
}

export interface Throughput extends Percentiles {
  readonly count: number
  readonly perSecond: number
}

/** `ask` is told the worker and how often it has asked before. */
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
