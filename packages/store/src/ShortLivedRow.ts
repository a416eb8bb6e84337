/**
 * The rows of `short_lived` as the log carries them: see `ShortLivedStore`.
 */
import { logKind } from "./LogKind.ts"

export interface ShortLivedRow {
  readonly key: string
  readonly value: unknown
}

export const shortLivedRows = logKind<ShortLivedRow>("short_lived", { key: "key", value: "value::json" })
