/**
 * A state as two columns of a row.
 */
import type { StateRef } from "../StateStore.ts"

/** Undefined if the columns are null. */
export const stateRef = (chain: bigint | null, seq: number | null): StateRef | undefined =>
  chain === null ? undefined : { chain: Number(chain), seq: seq ?? 0 }
