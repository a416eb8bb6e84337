/** The results of the flows as a table, and the verdict. */
import type { Step } from "./Flow.ts"

/** The steps of one client at one server. */
export interface Run {
  readonly client: string
  readonly server: "synapse" | "greenroom"
  readonly roomVersion: string
  readonly steps: ReadonlyArray<Step>
}

export interface Verdict {
  /** Steps that Greenroom passed. */
  readonly passed: number
  /** Steps that fail at Greenroom, but pass at the control or have none. */
  readonly failures: ReadonlyArray<string>
  /** Steps that fail at the control, because of a fault of the flow or the client. */
  readonly faults: ReadonlyArray<string>
}

const named = (run: Run, { error, name }: Step) => `${run.client}, ${run.server} ${run.roomVersion}, ${name}: ${error}`

const outcomeIn = (runs: ReadonlyArray<Run>, like: Run, server: Run["server"], name: string) =>
  runs
    .find((run) => run.server === server && run.client === like.client && run.roomVersion === like.roomVersion)
    ?.steps.find((step) => step.name === name)

/** A step that the control passes and Greenroom does not even reach counts as failed. */
const unreached = (runs: ReadonlyArray<Run>, control: Run): ReadonlyArray<string> =>
  runs.some(
    (run) => run.server === "greenroom" && run.client === control.client && run.roomVersion === control.roomVersion
  )
    ? control.steps
        .filter(({ name, ok }) => ok && outcomeIn(runs, control, "greenroom", name) === undefined)
        .map(({ name }) => `${control.client}, greenroom ${control.roomVersion}, ${name}: not reached`)
    : []

export const judge = (runs: ReadonlyArray<Run>): Verdict => {
  const failures: Array<string> = []
  const faults: Array<string> = []
  let passed = 0
  for (const run of runs) {
    if (run.server === "synapse") failures.push(...unreached(runs, run))
    for (const step of run.steps) {
      if (run.server === "synapse") {
        if (!step.ok) faults.push(named(run, step))
      } else if (step.ok) passed++
      else if (outcomeIn(runs, run, "synapse", step.name)?.ok !== false) failures.push(named(run, step))
    }
  }
  return { passed, failures, faults }
}

const mark = (step: Step | undefined) => (step === undefined ? "-" : step.ok ? "pass" : "FAIL")

/** One line for each step of each client, one column for each server and room version. */
export const table = (runs: ReadonlyArray<Run>): string => {
  const columns = [...new Set(runs.map((run) => `${run.server} ${run.roomVersion}`))]
  const rows = [["client", "step", ...columns]]
  for (const client of new Set(runs.map((run) => run.client))) {
    const own = runs.filter((run) => run.client === client)
    for (const name of new Set(own.flatMap(({ steps }) => steps.map((step) => step.name)))) {
      const marks = columns.map((column) =>
        mark(own.find((run) => `${run.server} ${run.roomVersion}` === column)?.steps.find((step) => step.name === name))
      )
      rows.push([client, name, ...marks])
    }
  }
  const widths = rows[0]!.map((_, index) => Math.max(...rows.map((row) => row[index]!.length)))
  return rows
    .map((row) =>
      row
        .map((cell, index) => cell.padEnd(widths[index]!))
        .join("  ")
        .trimEnd()
    )
    .join("\n")
}
