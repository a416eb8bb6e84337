/**
 * A progress bar for long work. Without a terminal on standard error it prints nothing.
 */
import type { BackupProgress } from "@greenroom/store/Backup"

/** How often the line is written, in ms. */
const interval = 250

/** How many characters the bar has. */
const width = 24

/** Bytes as people read them. */
export const size = (bytes: number): string =>
  bytes < 1e6
    ? `${Math.round(bytes / 1e3)} kB`
    : bytes < 1e9
      ? `${(bytes / 1e6).toFixed(1)} MB`
      : `${(bytes / 1e9).toFixed(2)} GB`

/** A line such as `[######------------------]  25 %  events  12.3 MB`. */
export const bar = ({ bytes, done, what }: BackupProgress): string => {
  const filled = Math.round(done * width)
  const percent = String(Math.floor(done * 100)).padStart(3)
  return `[${"#".repeat(filled)}${"-".repeat(width - filled)}] ${percent} %  ${what}  ${size(bytes)}`
}

/** Called as the work goes on, and at its end. */
export const makeProgress = (): { readonly show: (progress: BackupProgress) => void; readonly clear: () => void } => {
  if (!process.stderr.isTTY) return { show: () => {}, clear: () => {} }
  let shownAt = 0
  return {
    show: (progress) => {
      const now = performance.now()
      if (now - shownAt < interval) return
      shownAt = now
      process.stderr.write(`\r\u001b[K${bar(progress)}`)
    },
    clear: () => process.stderr.write("\r\u001b[K")
  }
}
