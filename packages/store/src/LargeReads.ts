/**
 * Limits the bytes of events that are in memory at once for answers. The state of a large room is an answer of many megabytes, and takes
 * several times as much memory while the answer is made.
 *
 * The first megabyte of a request is not limited, nor are the first 4,096 rows of a read. A larger read waits for its permit before the
 * rest: few requests at a time are large, one at a time is very large, and no request is larger than the maximum. Of the users and servers
 * whose requests wait, the next permit goes to the one that got one least recently, however many requests each of them makes.
 */
import { TooLarge } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Semaphore } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { FairSemaphore } from "./internal/FairSemaphore.ts"
import { bigints } from "./PgArrays.ts"

/** The bytes that a read may take without being counted. */
export const smallRead = 1024 * 1024

export interface LargeReadLimits {
  /** How many requests may read more than `smallRead` at a time. */
  readonly requests: number
  /** A request of more than this many bytes waits until it is the only one of its kind. */
  readonly large: number
  /** The most bytes of one request. */
  readonly most: number
}

const defaultLargeReadLimits: LargeReadLimits = {
  requests: 2,
  large: 32 * 1024 * 1024,
  most: 128 * 1024 * 1024
}

/** The bytes that one request may read. */
export interface Allowance {
  /** Waits until the request may read so many more bytes. Dies with M_TOO_LARGE if they are too many. */
  readonly take: (bytes: number) => Effect.Effect<void>
}

const unlimited: Allowance = { take: () => Effect.void }

/** The allowance of the current request. Work outside of requests has no limit. */
export const CurrentAllowance = Context.Reference<Allowance>("greenroom/store/CurrentAllowance", {
  defaultValue: () => unlimited
})

export interface HeldAllowance extends Allowance {
  /** Gives the permits back. What is taken after that is counted from zero. */
  readonly release: () => Effect.Effect<void>
}

/** Makes allowances that share limits. `owner` is for whom is read. */
export const makeLargeReads = ({ large, most, requests }: LargeReadLimits): ((owner: string) => HeldAllowance) => {
  const someLarge = new FairSemaphore(requests)
  const oneVeryLarge = new FairSemaphore(1)

  /** A permit that is held from the first `take` to `release`. */
  const hold = (semaphore: FairSemaphore, owner: string) => {
    let isHeld = false
    const granted = () => {
      isHeld = true
    }
    return {
      take: Effect.suspend(() => (isHeld ? Effect.void : semaphore.take(owner, granted))),
      release: () => {
        if (isHeld) semaphore.release()
        isHeld = false
      }
    }
  }

  /** The allowance of a request, once it has read so much that it is counted. */
  const makeHolding = (owner: string): Holding => {
    const alone = Semaphore.makeUnsafe(1).withPermits(1)
    const first = hold(someLarge, owner)
    const second = hold(oneVeryLarge, owner)
    let used = 0
    const take = (bytes: number): Effect.Effect<void> =>
      alone(
        Effect.suspend(() => {
          used += bytes
          if (used > most) {
            return Effect.die(
              new TooLarge({ error: `The answer would have more than ${most >> 20} MiB: ask for less` })
            )
          }
          return used > large ? Effect.andThen(first.take, second.take) : first.take
        })
      )
    const release = Effect.sync(() => {
      used = 0
      second.release()
      first.release()
    })
    return { take, release }
  }

  return (owner: string) => new RequestAllowance(owner, makeHolding)
}

interface Holding extends Allowance {
  readonly release: Effect.Effect<void>
}

/** The allowance of a request. Most requests read little, and never hold a permit. */
class RequestAllowance implements HeldAllowance {
  /** The user or server who makes the request; empty as long as that is not known. */
  owner: string
  private holding: Holding | undefined
  private readonly makeHolding: (owner: string) => Holding

  constructor(owner: string, makeHolding: (owner: string) => Holding) {
    this.owner = owner
    this.makeHolding = makeHolding
  }

  take(bytes: number): Effect.Effect<void> {
    this.holding ??= this.makeHolding(this.owner)
    return this.holding.take(bytes)
  }

  release(): Effect.Effect<void> {
    return this.holding?.release ?? Effect.void
  }
}

/** Makes the allowances of this process. */
export const LargeReads = Context.Reference("greenroom/store/LargeReads", {
  defaultValue: () => makeLargeReads(defaultLargeReadLimits)
})

const ownerOf = (allowance: Allowance): string => (allowance instanceof RequestAllowance ? allowance.owner : "")

/** Says who makes the current request, a user ID or a server name, once that is known. */
export const ownAllowance = (context: Context.Context<never>, owner: string): void => {
  const allowance = Context.get(context, CurrentAllowance)
  if (allowance instanceof RequestAllowance) allowance.owner = owner
}

/** Answers a request within an allowance of its own, which ends with the effect. A part of a request has the owner of the whole. */
export const withAllowance = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const allowance = Context.get(fiber.context, LargeReads)(ownerOf(Context.get(fiber.context, CurrentAllowance)))
    return Effect.onExit(Effect.provideService(effect, CurrentAllowance, allowance), () => allowance.release())
  })

/** Runs work of this server itself without a limit, whichever request started it. */
export const withoutAllowance = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    Context.get(fiber.context, CurrentAllowance) === unlimited
      ? effect
      : Effect.provideService(effect, CurrentAllowance, unlimited)
  )

/** Counts bytes of a read that is large, whatever their number. */
const takeCounted = (bytes: number): Effect.Effect<void> =>
  Effect.withFiber((fiber) => Context.get(fiber.context, CurrentAllowance).take(bytes))

/** How many rows are read before a request has to wait for its permit. So many events seldom have less than `smallRead` bytes. */
const firstRows = 4096

/** Waits for the permit of a read that is expected to have so many rows, before the database begins to look for them. */
export const expectRows = (rows: number): Effect.Effect<void> => (rows < firstRows ? Effect.void : takeCounted(0))

/** How many events have `smallRead` bytes at most. */
const smallEvents = smallRead / 65_536

/** Waits for the permit of a request that reads so many events in several steps, each of which is small. */
export const expectEvents = (events: number): Effect.Effect<void> =>
  events <= smallEvents ? Effect.void : takeCounted(0)

/** All rows of a query, of which the first are read before the permit for many. `limit` ends the query. */
export const readMany = <Row, E>(
  sql: SqlClient.SqlClient,
  query: (limit: Statement.Fragment) => Effect.Effect<ReadonlyArray<Row>, E>
): Effect.Effect<ReadonlyArray<Row>, E> =>
  Effect.flatMap(query(sql`LIMIT ${firstRows}`), (first) =>
    first.length < firstRows ? Effect.succeed(first) : Effect.andThen(expectRows(firstRows), query(sql``))
  )

/** Counts bytes that were read at once. */
export const takeBytes = (bytes: number): Effect.Effect<void> =>
  bytes <= smallRead
    ? Effect.void
    : Effect.withFiber((fiber) => Context.get(fiber.context, CurrentAllowance).take(bytes))

/** A row with an event: its body, unless `bytes`, the size of all bodies up to this row, is more than `smallRead`. */
export interface SizedRow {
  readonly nid: bigint
  readonly body: string | null
  readonly bytes: bigint
}

export type Whole<Row> = Row & { readonly body: string }

/** How many bytes of bodies are fetched at once. */
const fetchedAtOnce = 4 * 1024 * 1024

export const hasBody = <Row extends { readonly body: string | null }>(row: Row): row is Whole<Row> => row.body !== null

/** The numbers of rows without a body, in parts of which each has about `fetchedAtOnce` bytes. */
const parts = (rows: ReadonlyArray<SizedRow>): ReadonlyArray<ReadonlyArray<SizedRow>> => [
  ...Map.groupBy(rows, ({ bytes }) => Math.floor(Number(bytes) / fetchedAtOnce)).values()
]

/** The rows of a query, after the permit that they need: rows without their bodies fill the memory too. */
const readCounted = Effect.fnUntraced(function* <Row extends SizedRow, E>(
  sql: SqlClient.SqlClient,
  query: (limit: Statement.Fragment) => Effect.Effect<ReadonlyArray<Row>, E>
) {
  const first = yield* query(sql`LIMIT ${firstRows}`)
  const bytes = Number(first.at(-1)?.bytes ?? 0)
  if (first.length < firstRows) {
    yield* takeBytes(bytes)
    return first
  }
  yield* takeCounted(bytes)
  const rows = yield* query(sql``)
  yield* takeCounted(Math.max(0, Number(rows.at(-1)?.bytes ?? 0) - bytes))
  return rows
})

/**
 * The rows of a query with all of their bodies. If an event got another number in the meantime, the query runs again.
 *
 * The query must have the columns of `sizedBody`, and `limit` at the end of its subquery `sized`.
 */
export const readWhole = <Row extends SizedRow, E>(
  sql: SqlClient.SqlClient,
  query: (limit: Statement.Fragment) => Effect.Effect<ReadonlyArray<Row>, E>
): Effect.Effect<ReadonlyArray<Whole<Row>>, E> =>
  Effect.gen(function* () {
    const rows = yield* readCounted(sql, query)
    if (rows.every(hasBody)) return rows as ReadonlyArray<Whole<Row>>
    const bodies = new Map<bigint, string>()
    for (const part of parts(rows.filter((row) => !hasBody(row)))) {
      const found = yield* Effect.orDie(sql<{ nid: bigint; body: string }>`
        SELECT nid, body FROM events WHERE nid = ANY (${bigints(part.map(({ nid }) => Number(nid)))}::bigint[])`)
      for (const { body, nid } of found) bodies.set(nid, body)
    }
    const whole = rows.map((row) => ({ ...row, body: row.body ?? bodies.get(row.nid) ?? null }))
    return whole.every(hasBody) ? (whole as ReadonlyArray<Whole<Row>>) : yield* readWhole(sql, query)
  })

/**
 * The columns `body` and `bytes` of a `SizedRow`, from a subquery `sized` whose columns are `body` and what
 * `runningBytes` gives.
 */
export const sizedBody = (sql: SqlClient.SqlClient) =>
  sql.literal(`CASE WHEN sized.bytes <= ${smallRead} THEN sized.body END AS body, sized.bytes`)

/** The bytes of `events.body` of all rows up to this one, in the order in which they come. */
export const runningBytes = "sum(octet_length(events.body)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes"
