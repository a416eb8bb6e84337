/**
 * A progress bar for long work. Without a terminal on standard error it prints nothing.
 */

/** The progress of work. */
export interface Progress {
  /** The work in progress, such as the table that is copied. */
  readonly what: string
  /** Between 0 and 1. */
  readonly done: number
  /** The bytes read or written so far. */
  readonly bytes?: number
}

/** How often the line is written, in ms. */
const interval = 250

/** The width of the bar, in characters. */
const width = 24

/** A number of bytes as text. */
export const size = (bytes: number): string =>
  bytes < 1e6
    ? `${Math.round(bytes / 1e3)} kB`
    : bytes < 1e9
      ? `${(bytes / 1e6).toFixed(1)} MB`
      : `${(bytes / 1e9).toFixed(2)} GB`

/** A line such as `[######------------------]  25 %  events  12.3 MB`. */
export const bar = ({ bytes, done, what }: Progress): string => {
  const filled = Math.round(done * width)
  const percent = String(Math.floor(done * 100)).padStart(3)
  const amount = bytes === undefined ? "" : `  ${size(bytes)}`
  return `[${"#".repeat(filled)}${"-".repeat(width - filled)}] ${percent} %  ${what}${amount}`
}

/** Called while the work runs, and at its end. */
export const makeProgress = (): {
  readonly isShown: boolean
  readonly show: (progress: Progress) => void
  readonly clear: () => void
} => {
  if (!process.stderr.isTTY) return { isShown: false, show: () => {}, clear: () => {} }
  let shownAt = Number.NEGATIVE_INFINITY
  return {
    isShown: true,
    show: (progress) => {
      const now = performance.now()
      if (now - shownAt < interval) return
      shownAt = now
      process.stderr.write(`\r\u001b[K${bar(progress)}`)
    },
    clear: () => process.stderr.write("\r\u001b[K")
  }
}
