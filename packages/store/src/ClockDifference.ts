/**
 * How the clock of this machine differs from another, in words for the operator.
 */
import { plural } from "@greenroom/protocol/Plural"

const units = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000]
] as const

/** `5 days ahead of`, for a difference in milliseconds that is negative where this clock is behind. */
export const clockDifference = (difference: number): string => {
  const size = Math.abs(difference)
  const [unit, length] = units.find(([, length]) => size >= 2 * length) ?? ["second", 1_000]
  return `${plural(Math.round(size / length), unit)} ${difference > 0 ? "ahead of" : "behind"}`
}
