/**
 * A benchmark: a measurement against a baseline, in the same run and on the same machine. Each has
 * a file of its own; `main.ts` knows them all.
 */

/** One line of the table. */
export interface Figure {
  readonly what: string
  /** With its unit, as it is read. */
  readonly value: string
  /** The baseline: the cost without Greenroom, or without the measured part; `-` where the figure is a time by itself. */
  readonly baseline: string
  /** The figure against its baseline, such as `0.42 of it`. */
  readonly ratio?: string
  /** The target, and whether the figure reaches it. */
  readonly target?: { readonly text: string; readonly met: boolean }
}

export interface BenchmarkOptions {
  /** Small numbers: to see that the program works, not to read the figures. */
  readonly quick: boolean
}

export interface Benchmark {
  readonly name: string
  /** One sentence. */
  readonly measures: string
  readonly run: (options: BenchmarkOptions) => Promise<ReadonlyArray<Figure>>
}

/** A number of things, with thousands apart. */
export const count = (value: number): string => Math.round(value).toLocaleString("en")

export const perSecond = (value: number, what: string): string => `${count(value)} ${what}/s`

export const milliseconds = (value: number): string => `${value < 10 ? value.toFixed(1) : count(value)} ms`

/** `share` is between 0 and 1, or above. */
export const ofBaseline = (share: number): string => `${share.toFixed(2)} of it`

export const times = (factor: number): string => `${factor.toFixed(1)} times`

/** A target that the figure must reach. */
export const atLeast = (value: number, target: number): NonNullable<Figure["target"]> => ({
  text: `at least ${target}`,
  met: value >= target
})

/** A target that the figure must stay below. `unit` follows the number. */
export const atMost = (value: number, target: number, unit = ""): NonNullable<Figure["target"]> => ({
  text: `at most ${target}${unit}`,
  met: value <= target
})
