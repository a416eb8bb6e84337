/**
 * Signals that there is work for the node that does work of this kind. A signal is a row of `short_lived`, so every node reads it
 * with the log, and processes that do not follow the log (the command line) can send one. Where these rows are lost, the log
 * has an epoch that is `fresh`: it signals work of every kind. `aliases` signals that aliases have changed, to those who remember them.
 */
import type * as SqlClient from "effect/sql/SqlClient"
import type { Fragment } from "effect/sql/Statement"
import { logEpochs } from "./LogEpoch.ts"
import { type LogRows, ofKind, rowsOf } from "./LogKind.ts"
import type { LogSlice } from "./LogSlice.ts"
import { shortLivedRows } from "./ShortLivedRow.ts"

export type WorkKind =
  | "aliases"
  | "deactivations"
  | "delayed events"
  | "mails"
  | "removals"
  | "server notices"
  | "unfinished memberships"
  | "unfinished upgrades"
  | "unverified PDUs"
  | "user redactions"
  | "waiting events"

/** The value is null: nodes of versions that know no signals take it for a key that has no value any more. */
const keyOf = (kind: WorkKind): string => `work ${kind}`

/**
 * The statement that signals work: if `from` (SQL) has a row, or always without it. It is run in the transaction that stores the work, or
 * ends the statement that does.
 */
export const signalWork = (sql: SqlClient.SqlClient, kind: WorkKind, from: Fragment = sql``) => sql`
  INSERT INTO short_lived (key, value) SELECT ${keyOf(kind)}, 'null' ${from}
  ON CONFLICT (key) DO UPDATE SET xid = excluded.xid, nid = excluded.nid`

/** The position of a signal, where `RETURNING xid::text AS xid, nid` follows `signalWork`. */
export interface SentSignal {
  readonly xid: string
  readonly nid: bigint
}

/** A signal that was sent, for the log of this node (`EventLog.committed`). */
export const rowsOfSignal = (kind: WorkKind, { nid, xid }: SentSignal): LogRows =>
  ofKind(shortLivedRows, [{ position: { xid: Number(xid), nid: Number(nid) }, row: { key: keyOf(kind), value: null } }])

/** Whether a slice of the log signals work of this kind. */
export const signalsWork = ({ rows }: LogSlice, kind: WorkKind): boolean =>
  rowsOf(rows, shortLivedRows).some(({ row }) => row.key === keyOf(kind)) ||
  rowsOf(rows, logEpochs).some(({ row }) => row.fresh)
