/**
 * A finding of `greenroom doctor`: its subject, the fault, and the remedy.
 */
import { clockDifference } from "@greenroom/store/ClockDifference"
import { Effect } from "effect"

export interface Finding {
  /** The subject: `configuration`, `disk`, `files`, `database`, `clock`, `ports`, `tls`, `dns`, `federation`. */
  readonly check: string
  readonly status: "ok" | "warning" | "error"
  readonly found: string
  readonly remedy?: string
}

export const ok = (check: string, found: string): Finding => ({ check, status: "ok", found })

export const warning = (check: string, found: string, remedy: string): Finding => ({
  check,
  status: "warning",
  found,
  remedy
})

export const failure = (check: string, found: string, remedy: string): Finding => ({
  check,
  status: "error",
  found,
  remedy
})

/** What follows once there is room on a disk again. */
export const afterwards = (isRunning: boolean): string =>
  isRunning ? "The server goes on by itself." : "Then start the server."

/** The text of an error. */
export const reasonOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "reason" in error && typeof error.reason === "string"
    ? error.reason
    : error instanceof Error
      ? error.message
      : String(error)

/** Runs a check. A failure of the check itself is a finding too. */
export const checking = (
  check: string,
  run: () => Promise<ReadonlyArray<Finding>>
): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.catch(Effect.tryPromise(run), ({ cause }) =>
    Effect.succeed([failure(check, `could not be checked: ${reasonOf(cause)}`, "Report this as a fault of Greenroom.")])
  )

const day = 86_400_000

/** The largest accepted difference of two clocks, in ms. With larger ones, timestamps of events are wrong and keys seem expired. */
const maxSkew = 30_000

/** Compares the clock of this machine with that of another, which answered with the time `otherTime` after `took` ms. */
export const compareClocks = (other: string, otherTime: number, took: number): Finding => {
  const skew = Date.now() - took / 2 - otherTime
  if (Math.abs(skew) <= maxSkew + took) return ok("clock", `agrees with that of ${other}`)
  return failure(
    "clock",
    `is ${clockDifference(skew)} that of ${other}`,
    "Set it by NTP, on the one of the two that is wrong (timedatectl set-ntp true)."
  )
}

/** Finds a clock that is behind the newest time in the database, where there is no other clock to compare it with. */
export const compareRecords = (newest: number): ReadonlyArray<Finding> => {
  const skew = Date.now() - newest
  if (skew >= -maxSkew) return []
  const found = `is ${clockDifference(skew)} the newest record of the database: it is slow, or was ahead when that was written`
  return [
    warning("clock", found, "Compare it with another clock. Set it by NTP if it is slow (timedatectl set-ntp true).")
  ]
}

/** A time in days from now. */
export const daysUntil = (time: number): number => Math.floor((time - Date.now()) / day)
