/**
 * A line on the terminal that says how far long work is. Nothing where standard error is no terminal.
 */
import type { BackupProgress } from "@greenroom/store/Backup"

/** How often the line is written, in ms. */
const interval = 250

/** Bytes as people read them. */
export const size = (bytes: number): string =>
  bytes < 1e6
    ? `${Math.round(bytes / 1e3)} kB`
    : bytes < 1e9
      ? `${(bytes / 1e6).toFixed(1)} MB`
      : `${(bytes / 1e9).toFixed(2)} GB`

/** What to call as the work goes on, and at its end. */
export const makeProgress = (): { readonly show: (progress: BackupProgress) => void; readonly clear: () => void } => {
  if (!process.stderr.isTTY) return { show: () => {}, clear: () => {} }
  let shownAt = 0
  return {
    show: ({ bytes, table }) => {
      const now = performance.now()
      if (now - shownAt < interval) return
      shownAt = now
      process.stderr.write(`\r\u001b[K${table}  ${size(bytes)}`)
    },
    clear: () => process.stderr.write("\r\u001b[K")
  }
}
