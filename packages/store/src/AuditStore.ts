/**
 * The audit log: a chain of rows, each with the hash of the one before it, so that a row that was changed, removed or
 * inserted afterwards is found (`verify`). Signed heads record the length of the chain at certain times, which reveals rows removed
 * from its end. An attacker with write access to the database and the signing key could make a new chain. Therefore the heads are
 * also written to the server's log, which an operator can keep elsewhere.
 *
 * An action has a row before it runs; if the row cannot be written, the action does not run. An action that fails has a second row,
 * `room.delete.failed` for `room.delete`, with the number of the first one. After a crash during the action there is only the first.
 * Work that outlasts its action keeps that number (`AuditSeq`), and records its failure with it.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import { createHash } from "node:crypto"
import { parseJsonText } from "@greenroom/protocol/Json"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"

export interface NewAuditEntry {
  /** The user ID of an administrator, or `command line`. */
  readonly actor: string
  /** The action, such as `room.delete`. */
  readonly action: string
  /** The target: a user ID, a room ID, a content URI. */
  readonly target?: string | undefined
  readonly reason?: string | undefined
  /** The parameters, without secrets. */
  readonly details?: { readonly [name: string]: unknown } | undefined
}

export interface AuditEntry extends NewAuditEntry {
  /** From 1, without gaps. */
  readonly seq: number
  readonly at: number
  /** SHA-256 in hexadecimal digits, as `previous`. */
  readonly hash: string
  readonly previous: string
}

/** The end of the chain at a time, signed by the server. */
export interface AuditHead {
  readonly seq: number
  readonly hash: string
  readonly signedAt: number
  readonly keyId: string
  /** Unpadded base64. */
  readonly signature: string
}

export interface AuditQuery {
  readonly limit: number
  /** Entries with a smaller number, the newest first. */
  readonly before?: number | undefined
  readonly actor?: string | undefined
  readonly target?: string | undefined
}

/** The hash before the first row. */
const origin = "0".repeat(64)

/** "graudit" in the bytes of ASCII: the advisory lock under which rows are added one at a time. */
const appendLock = 0x6772_6175_6469_7400n

/** How often the row of a failure is tried again while the database takes none. */
const failureRetryInterval = "5 seconds"

/** How many rows one statement reads. */
const batch = 1_000

interface Row {
  readonly seq: bigint
  readonly at: bigint
  readonly actor: string
  readonly action: string
  readonly target: string | null
  readonly reason: string | null
  readonly details: string
  readonly previous: Uint8Array
  readonly hash: Uint8Array
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

const lastRow = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ seq: bigint; hash: Uint8Array }>`SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1`,
    ([row]) => (row === undefined ? undefined : { seq: Number(row.seq), hash: hex(row.hash) })
  )

type Hashed = Omit<Row, "seq" | "at" | "hash" | "previous"> & {
  readonly seq: number
  readonly at: number
  readonly previous: string
}

/** Over the columns as they are stored. */
const hashOf = (row: Hashed): Buffer =>
  createHash("sha256")
    .update(JSON.stringify([row.previous, row.seq, row.at, row.actor, row.action, row.target, row.reason, row.details]))
    .digest()

const toHashed = (row: Row): Hashed => ({
  ...row,
  seq: Number(row.seq),
  at: Number(row.at),
  previous: hex(row.previous)
})

/** The value of JSON text of this kind; the text itself where somebody has changed the row into something else. */
const read = <A>(text: string, isOfKind: (value: unknown) => value is A, otherwise: (text: string) => A): A => {
  const value = parseJsonText(text)
  return isOfKind(value) ? value : otherwise(text)
}

const toEntry = (row: Row): AuditEntry => ({
  seq: Number(row.seq),
  at: Number(row.at),
  actor: row.actor,
  action: row.action,
  target: row.target ?? undefined,
  reason: row.reason === null ? undefined : read(row.reason, Predicate.isString, (text) => text),
  details: read(row.details, Predicate.isObject, (text) => ({ changed: text })),
  previous: hex(row.previous),
  hash: hex(row.hash)
})

/** The text that a head's signature covers. */
export const signedText = ({ hash, seq, signedAt }: Pick<AuditHead, "seq" | "hash" | "signedAt">): string =>
  `greenroom audit head ${seq} ${hash} ${signedAt}`

/** The number of the row of the action that runs; undefined outside of one. */
export const AuditSeq = Context.Reference<number | undefined>("greenroom/store/AuditSeq", {
  defaultValue: () => undefined
})

/** Adds a row at the end of the chain. */
const append = Effect.fn("AuditStore.append")(function* (sql: SqlClient.SqlClient, entry: NewAuditEntry) {
  const at = yield* Clock.currentTimeMillis
  return yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`SELECT pg_advisory_xact_lock(${appendLock})`
      const last = yield* lastRow(sql)
      const seq = (last?.seq ?? 0) + 1
      const previous = last?.hash ?? origin
      const row = {
        seq,
        at,
        actor: entry.actor,
        action: entry.action,
        target: entry.target ?? null,
        reason: entry.reason === undefined ? null : JSON.stringify(entry.reason),
        details: JSON.stringify(entry.details ?? {}),
        previous
      }
      const hash = hashOf(row)
      yield* sql`
        INSERT INTO audit_log (seq, at, actor, action, target, reason, details, previous, hash)
        VALUES (${seq}, ${at}, ${row.actor}, ${row.action}, ${row.target}, ${row.reason}, ${row.details},
                ${Buffer.from(previous, "hex")}, ${hash})`
      return seq
    })
  )
})

/** Adds the row that says why the action of another row failed. For work that outlasts its action, in the transaction that ends it. */
export const appendFailure = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  seq: number,
  { code, reason }: ActionFailure
) {
  const [row] = yield* sql<Pick<Row, "actor" | "action" | "target">>`
    SELECT actor, action, target FROM audit_log WHERE seq = ${seq}`
  // Somebody has cut the row, which a verification finds.
  if (row === undefined) return
  const { action, actor, target } = row
  const details = { row: seq, ...(code === undefined ? {} : { errcode: code }) }
  yield* append(sql, { actor, action: `${action}.failed`, target: target ?? undefined, reason, details })
})

interface ActionFailure {
  readonly reason: string
  /** The error code of Matrix. */
  readonly code?: string
}

/** Why an action failed. What a defect says may have secrets, and is in the log of the program. */
const failureOf = (cause: Cause.Cause<unknown>): ActionFailure => {
  if (Cause.hasInterruptsOnly(cause)) return { reason: "Interrupted" }
  const failure = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (typeof failure !== "object" || failure === null) return { reason: "Internal error" }
  const { _tag, error, message } = failure as { readonly [field: string]: unknown }
  if (typeof error === "string") return { reason: error, ...(typeof _tag === "string" ? { code: _tag } : {}) }
  return { reason: typeof message === "string" ? message : "Internal error" }
}

export class AuditStore extends Context.Service<
  AuditStore,
  {
    /**
     * Adds a row, then runs the action. If the action fails or is interrupted, adds a row that says so, at once or when the
     * database takes rows again.
     */
    readonly run: <A, E, R>(entry: NewAuditEntry, action: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
    /** A stream that outlasts the action that runs, such as a download: if it fails or is interrupted, a row says so too. */
    readonly following: <A, E, R>(stream: Stream.Stream<A, E, R>) => Effect.Effect<Stream.Stream<A, E, R>>
    readonly list: (query: AuditQuery) => Effect.Effect<ReadonlyArray<AuditEntry>>
    /** The last row, undefined for an empty log. */
    readonly last: Effect.Effect<{ readonly seq: number; readonly hash: string } | undefined>
    readonly heads: Effect.Effect<ReadonlyArray<AuditHead>>
    /** Adds a head, unless this row has one. */
    readonly addHead: (head: AuditHead) => Effect.Effect<void>
    /** Verifies the chain. Returns its faults, one line each, and the hash of every row that a head names. */
    readonly verify: (heads: ReadonlyArray<number>) => Effect.Effect<{
      readonly rows: number
      readonly problems: ReadonlyArray<string>
      readonly hashes: ReadonlyMap<number, string>
    }>
  }
>()("greenroom/store/AuditStore") {
  static readonly layer = Layer.effect(
    AuditStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const scope = yield* Effect.scope

      /** Adds the row of a failure, at once or when the database takes rows again. */
      const recordFailure = (seq: number) => (exit: Exit.Exit<unknown, unknown>) => {
        if (Exit.isSuccess(exit)) return Effect.void
        const failure = failureOf(exit.cause)
        const appended = appendFailure(sql, seq, failure)
        return Effect.catchCause(appended, (problem) =>
          Effect.andThen(
            Effect.logError(`Audit log: the failure of row ${seq} cannot be recorded yet: ${failure.reason}`, problem),
            Effect.forkIn(Effect.interruptible(Effect.retry(appended, Schedule.spaced(failureRetryInterval))), scope)
          )
        )
      }

      const run = <A, E, R>(entry: NewAuditEntry, action: Effect.Effect<A, E, R>) =>
        Effect.flatMap(Effect.orDie(append(sql, entry)), (seq) =>
          Effect.onExit(Effect.provideService(action, AuditSeq, seq), recordFailure(seq))
        )

      const following = <A, E, R>(stream: Stream.Stream<A, E, R>) =>
        Effect.map(AuditSeq, (seq) => (seq === undefined ? stream : Stream.onExit(stream, recordFailure(seq))))

      const list = ({ actor, before, limit, target }: AuditQuery) =>
        sql<Row>`
          SELECT * FROM audit_log
          WHERE seq < ${before ?? Number.MAX_SAFE_INTEGER}
            AND (${actor ?? null}::text IS NULL OR actor = ${actor ?? null})
            AND (${target ?? null}::text IS NULL OR target = ${target ?? null})
          ORDER BY seq DESC LIMIT ${limit}`.pipe(
          Effect.map((rows) => rows.map(toEntry)),
          Effect.orDie
        )

      const verify = Effect.fn("AuditStore.verify")(function* (heads: ReadonlyArray<number>) {
        const wanted = new Set(heads)
        const problems: Array<string> = []
        const hashes = new Map<number, string>()
        let [rows, after, expected] = [0, 0, origin]
        for (;;) {
          const page = yield* sql<Row>`SELECT * FROM audit_log WHERE seq > ${after} ORDER BY seq LIMIT ${batch}`
          for (const row of page) {
            const hashed = toHashed(row)
            const { seq } = hashed
            const missing = seq - after - 1
            if (missing > 0) problems.push(`${missing === 1 ? "row" : "rows"} ${spanOf(after + 1, seq - 1)} missing`)
            else if (hashed.previous !== expected)
              problems.push(`row ${seq} does not follow row ${after}: one of them was inserted or replaced`)
            if (!hashOf(hashed).equals(row.hash)) problems.push(`row ${seq} was changed`)
            if (wanted.has(seq)) hashes.set(seq, hex(row.hash))
            ;[rows, after, expected] = [rows + 1, seq, hex(row.hash)]
          }
          if (page.length < batch) return { rows, problems, hashes }
        }
      }, Effect.orDie)

      return AuditStore.of({
        run,
        list,
        verify,
        following,
        last: Effect.orDie(lastRow(sql)),
        heads: sql<{ seq: bigint; hash: Uint8Array; signed_at: bigint; key_id: string; signature: string }>`
          SELECT * FROM audit_heads ORDER BY seq`.pipe(
          Effect.map((rows) =>
            rows.map((row) => ({
              seq: Number(row.seq),
              hash: hex(row.hash),
              signedAt: Number(row.signed_at),
              keyId: row.key_id,
              signature: row.signature
            }))
          ),
          Effect.orDie
        ),
        addHead: ({ hash, keyId, seq, signature, signedAt }) =>
          sql`
            INSERT INTO audit_heads (seq, hash, signed_at, key_id, signature)
            VALUES (${seq}, ${Buffer.from(hash, "hex")}, ${signedAt}, ${keyId}, ${signature}) ON CONFLICT DO NOTHING`.pipe(
            Effect.asVoid,
            Effect.orDie
          )
      })
    })
  )
}

const spanOf = (first: number, last: number): string => (first === last ? `${first} is` : `${first} to ${last} are`)
