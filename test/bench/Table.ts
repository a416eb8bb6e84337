/** Figures as a table of text: what is measured, what came out, and what it is compared with. */
import type { Figure } from "./Benchmark.ts"

const columns = ["", "Greenroom", "baseline", "ratio", "target"] as const

const cells = ({ baseline, ratio, target, value, what }: Figure): ReadonlyArray<string> => [
  what,
  value,
  baseline,
  ratio ?? "",
  target === undefined ? "" : `${target.text}: ${target.met ? "met" : "MISSED"}`
]

export const table = (figures: ReadonlyArray<Figure>): string => {
  const rows = [columns, ...figures.map(cells)]
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd()
  return [line(columns), widths.map((width) => "-".repeat(width)).join("  "), ...rows.slice(1).map(line)].join("\n")
}
