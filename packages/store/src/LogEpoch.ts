/**
 * The epochs of the log, as rows of it. Each start of a node begins one: see `internal/logEpochs.ts`.
 */
import { logKind } from "./LogKind.ts"

export interface LogEpoch {
  /** A random name. */
  readonly epoch: string
  /** Whether the short-lived values were lost: readers from before get all present values. */
  readonly fresh: boolean
}

export const logEpochs = logKind<LogEpoch>("log_epochs", { epoch: "epoch", fresh: "fresh" })
