/**
 * The epochs of the log. Each start of a node begins one, under a random name, with a row that says how far the log had
 * come. A token carries the epoch that was the newest when it was issued.
 *
 * After a backup was restored the log continues from the end of the backup, and at some time passes the positions of the future
 * that was lost. A token from there is known by its epoch: either the restored database does not have it, or it ended with
 * the start that followed the restore, before the position of the token.
 *
 * | xid, nid | row | |
 * |---|---|---|
 * | 700, 1 | epoch `k3j9` | the server starts; a backup is made later |
 * | 820, 7 | an event | after the backup: a token is `t1_820_7_k3j9` |
 * | 790, 3 | epoch `w81c`, follows (788, 4) | the backup was restored; `k3j9` ended at (788, 4), so the token is lost |
 */
import { randomBytes } from "node:crypto"
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { setNewest } from "../BoundedMap.ts"
import { logEpochs } from "../LogEpoch.ts"
import { rowsOf } from "../LogKind.ts"
import type { LogSlice } from "../LogSlice.ts"
import { beginning, comparePositions, endOfTransaction, type StreamPosition, type StreamToken } from "../StreamToken.ts"
import { nextOfEnded } from "./logEdge.ts"
import { positionOf } from "./positionSql.ts"

/** How many epochs that have ended are remembered. */
const maxRemembered = 1_000

/** 62 bits in digits and lower-case letters. */
const newName = (): string =>
  BigInt(`0x${randomBytes(8).toString("hex")}`)
    .toString(36)
    .slice(0, 12)

interface EndRow {
  /** Null if the epoch has not ended. */
  readonly xid: string | null
  readonly nid: bigint
}

const endOf = ({ nid, xid }: EndRow): StreamPosition | undefined =>
  xid === null ? undefined : { xid: Number(xid), nid: Number(nid) }

export class LogEpochs {
  private readonly sql: SqlClient.SqlClient
  private newest: { readonly epoch: string; readonly position: StreamPosition } = { epoch: "", position: beginning }
  /** The last position of each epoch that has ended: where the next one begins. */
  private readonly ends = new Map<string, StreamPosition>()

  constructor(sql: SqlClient.SqlClient) {
    this.sql = sql
  }

  /** The name of the newest epoch. */
  get current(): string {
    return this.newest.epoch
  }

  /** Begins an epoch. `follows`: the last position of tokens that were issued before; any if absent. */
  begin(options: {
    readonly follows?: StreamPosition | undefined
    readonly fresh: boolean
  }): Effect.Effect<void, SqlError.SqlError> {
    const epoch = newName()
    const { follows, fresh } = options
    return Effect.map(
      this.sql<{ xid: string; nid: bigint }>`
        INSERT INTO log_epochs (epoch, follows_xid, follows_nid, fresh)
        VALUES (${epoch}, ${follows === undefined ? this.sql`log_xid()` : this.sql`${String(follows.xid)}::xid8`},
                ${follows?.nid ?? 0}, ${fresh})
        RETURNING xid::text AS xid, nid`,
      ([row]) => this.see(epoch, positionOf(row!))
    )
  }

  /** Notes the epochs in a slice of the log. */
  read(slice: LogSlice): void {
    for (const { position, row } of rowsOf(slice.rows, logEpochs)) this.see(row.epoch, position)
  }

  /** Looks for epochs that other nodes have begun. */
  readonly readNewest: Effect.Effect<void, SqlError.SqlError> = Effect.suspend(() =>
    Effect.map(
      this.sql<{ epoch: string; xid: string; nid: bigint }>`
        SELECT epoch, xid::text AS xid, nid FROM log_epochs
        ORDER BY log_epochs.xid DESC, log_epochs.nid DESC LIMIT 1`,
      ([row]) => {
        if (row !== undefined) this.see(row.epoch, positionOf(row))
      }
    )
  )

  private see(epoch: string, position: StreamPosition): void {
    if (comparePositions(position, this.newest.position) > 0) this.newest = { epoch, position }
  }

  /** The epoch for a token of a position that this node may not have read yet. */
  of(position: StreamPosition, reached: StreamPosition): Effect.Effect<string, SqlError.SqlError> {
    if (comparePositions(position, reached) <= 0) return Effect.succeed(this.newest.epoch)
    return Effect.map(
      this.sql<{ epoch: string }>`SELECT epoch FROM log_epochs ORDER BY xid DESC, nid DESC LIMIT 1`,
      ([row]) => row?.epoch ?? this.newest.epoch
    )
  }

  /** Whether a token is from a future that the database does not have. `reached`: how far this node has read. */
  isLost(token: StreamToken, reached: StreamPosition): Effect.Effect<boolean, SqlError.SqlError> {
    return Effect.map(this.lastKnown(token, reached), (known) => known !== token.position)
  }

  /**
   * The position of a token, or the end of its epoch where it lies behind that: rows after it are new. Undefined if the
   * database does not have the epoch, or no position of the token's number.
   */
  lastKnown(
    { epoch, position }: StreamToken,
    reached: StreamPosition
  ): Effect.Effect<StreamPosition | undefined, SqlError.SqlError> {
    const within = (end: StreamPosition) => (comparePositions(position, end) > 0 ? end : position)
    const unlessBeyond = Effect.map(this.isBeyond(position, reached), (isBeyond) => (isBeyond ? undefined : position))
    if (epoch === this.newest.epoch) return unlessBeyond
    const known = this.ends.get(epoch)
    if (known !== undefined) return Effect.succeed(within(known))
    return Effect.flatMap(epoch === "" ? this.findFirst() : this.findEnd(epoch), (row) => {
      if (row === undefined) return Effect.succeed(undefined)
      const end = endOf(row)
      if (end === undefined) return unlessBeyond
      setNewest(this.ends, epoch, end, maxRemembered)
      return Effect.succeed(within(end))
    })
  }

  /** Whether no transaction can have written rows there yet. */
  private isBeyond(position: StreamPosition, reached: StreamPosition): Effect.Effect<boolean, SqlError.SqlError> {
    if (comparePositions(position, endOfTransaction(reached.xid)) <= 0) return Effect.succeed(false)
    return Effect.map(nextOfEnded(this.sql), (next) => position.xid >= next)
  }

  private findEnd(epoch: string) {
    return Effect.map(
      this.sql<EndRow>`
        SELECT next.follows_xid::text AS xid, next.follows_nid AS nid
        FROM log_epochs AS named LEFT JOIN LATERAL (
          SELECT follows_xid, follows_nid FROM log_epochs
          WHERE (log_epochs.xid, log_epochs.nid) > (named.xid, named.nid)
          ORDER BY log_epochs.xid, log_epochs.nid LIMIT 1
        ) AS next ON true
        WHERE named.epoch = ${epoch}`,
      ([row]) => row
    )
  }

  /** Tokens from before there were epochs end with the first one. */
  private findFirst() {
    return Effect.map(
      this.sql<EndRow>`SELECT xid::text AS xid, nid FROM log_epochs ORDER BY log_epochs.xid, log_epochs.nid LIMIT 1`,
      ([row]) => row
    )
  }
}
