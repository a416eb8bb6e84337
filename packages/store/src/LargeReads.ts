/**
 * Limits the bytes of events that are in memory at once for answers. The state of a large room is an answer of many megabytes, and takes
 * several times as much memory while the answer is made.
 *
 * What a request reads is added up. Any number of requests may have `freeRead` bytes. One with more waits for a permit before the rest: the
 * more it has, the fewer such requests there are at a time, and no request has more than the maximum. Of the users and servers whose
 * requests wait, the next permit goes to the one that got one least recently, however many requests each of them makes.
 */
import { TooLarge } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Semaphore } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { FairSemaphore } from "./internal/FairSemaphore.ts"
import { bigints } from "./PgArrays.ts"

/** The bytes that a request may have without a permit. */
export const freeRead = 128 * 1024

/** The bytes of a small request: more than a few may have so many at a time. */
export const smallRead = 1024 * 1024

/** Requests with more bytes than `above`: how many there may be at a time. */
export interface ReadTier {
  readonly above: number
  readonly requests: number
}

export interface LargeReadLimits {
  /** In ascending order. A request has a permit of each tier up to its own. */
  readonly tiers: ReadonlyArray<ReadTier>
  /** The most bytes of one request. */
  readonly most: number
}

const defaultLargeReadLimits: LargeReadLimits = {
  tiers: [
    { above: freeRead, requests: 16 },
    { above: smallRead, requests: 2 },
    { above: 32 * 1024 * 1024, requests: 1 }
  ],
  most: 128 * 1024 * 1024
}

/** The bytes that one request may read. */
export interface Allowance {
  /** Waits until the request may have so many more bytes. Dies with M_TOO_LARGE if they are too many. */
  readonly take: (bytes: number) => Effect.Effect<void>
  /** Counts so many more bytes if the request need not wait for them. Otherwise it has to take them. */
  readonly takeNow: (bytes: number) => boolean
  /** Waits until the request may have so many bytes altogether, but does not count them: they are counted when they are read. */
  readonly expect: (bytes: number) => Effect.Effect<void>
  /** The request no longer has so many of its bytes. */
  readonly give: (bytes: number) => Effect.Effect<void>
}

const unlimited: Allowance = {
  take: () => Effect.void,
  takeNow: () => true,
  expect: () => Effect.void,
  give: () => Effect.void
}

/** The allowance of the current request. Work outside of requests has no limit. */
export const CurrentAllowance = Context.Reference<Allowance>("greenroom/store/CurrentAllowance", {
  defaultValue: () => unlimited
})

export interface HeldAllowance extends Allowance {
  /** Gives the permits back. What is taken after that is counted from zero. */
  readonly release: () => Effect.Effect<void>
}

/** Makes allowances that share limits. `owner` is for whom is read. */
export const makeLargeReads = ({ most, tiers }: LargeReadLimits): ((owner: string) => HeldAllowance) => {
  const shared = tiers.map(({ above, requests }) => ({ above, permits: new FairSemaphore(requests) }))
  return (owner: string) => new RequestAllowance(owner, shared, most)
}

/** The allowance of a request. Most requests read little, and never hold a permit. */
class RequestAllowance implements HeldAllowance {
  /** The user or server who makes the request; empty as long as that is not known. */
  owner: string
  private readonly tiers: ReadonlyArray<{ readonly above: number; readonly permits: FairSemaphore }>
  private readonly most: number
  private used = 0
  /** How many permits the request needs: of the first tiers. */
  private needed = 0
  /** The tiers of which the request has a permit, a bit for each. */
  private held = 0
  /** Reads of one request wait for its permits one after the other. */
  private inTurn: Semaphore.Semaphore | undefined

  constructor(owner: string, tiers: RequestAllowance["tiers"], most: number) {
    this.owner = owner
    this.tiers = tiers
    this.most = most
  }

  take(bytes: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.used += bytes
      if (this.used > this.most) {
        return Effect.die(
          new TooLarge({ error: `The answer would have more than ${this.most >> 20} MiB: ask for less` })
        )
      }
      return this.expect(this.used)
    })
  }

  takeNow(bytes: number): boolean {
    const used = this.used + bytes
    if (used > this.most) return false
    const needed = Math.max(this.needed, this.tierOf(used))
    for (let tier = 0; tier < needed; tier++) {
      if ((this.held & (1 << tier)) !== 0) continue
      if (!this.tiers[tier]!.permits.takeNow(this.owner)) return false
      this.held |= 1 << tier
    }
    this.used = used
    this.needed = needed
    return true
  }

  expect(bytes: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.needed = Math.max(this.needed, this.tierOf(bytes))
      return this.missing === undefined ? Effect.void : this.wait
    })
  }

  give(bytes: number): Effect.Effect<void> {
    return Effect.sync(() => {
      this.used -= bytes
      this.needed = this.tierOf(this.used)
      this.giveBack(this.needed)
    })
  }

  release(): Effect.Effect<void> {
    return Effect.sync(() => {
      this.used = 0
      this.needed = 0
      this.giveBack(0)
    })
  }

  /** Gives the permit of a small request back until its next read. */
  pause(): Effect.Effect<void> {
    return Effect.sync(() => {
      if (this.needed <= 1) this.giveBack(0)
    })
  }

  /** How many permits a request with so many bytes needs. */
  private tierOf(bytes: number): number {
    return this.tiers.findLastIndex(({ above }) => bytes > above) + 1
  }

  /** The first tier of which a permit is missing. */
  private get missing(): number | undefined {
    for (let tier = 0; tier < this.needed; tier++) if ((this.held & (1 << tier)) === 0) return tier
    return undefined
  }

  /** Waits for the permits that the request needs, from the first tier on: requests that wait in this order do not wait for each other. */
  private get wait(): Effect.Effect<void> {
    this.inTurn ??= Semaphore.makeUnsafe(1)
    const next: Effect.Effect<void> = Effect.suspend(() => {
      const tier = this.missing
      if (tier === undefined) return Effect.void
      this.giveBack(tier)
      const granted = () => {
        this.held |= 1 << tier
      }
      return Effect.flatMap(this.tiers[tier]!.permits.take(this.owner, granted), () => next)
    })
    return this.inTurn.withPermits(1)(next)
  }

  /** Gives the permits of the tiers from this one on back. */
  private giveBack(from: number): void {
    for (let tier = this.tiers.length - 1; tier >= from; tier--) {
      if ((this.held & (1 << tier)) === 0) continue
      this.held &= ~(1 << tier)
      this.tiers[tier]!.permits.release()
    }
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

/**
 * Answers a request within an allowance of its own, which ends with the effect. A part of a request has the owner of the whole, unless
 * another one is given.
 */
export const withAllowance = <A, E, R>(effect: Effect.Effect<A, E, R>, owner?: string): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const ofWhole = ownerOf(Context.get(fiber.context, CurrentAllowance))
    const allowance = Context.get(fiber.context, LargeReads)(owner ?? ofWhole)
    return Effect.onExit(Effect.provideService(effect, CurrentAllowance, allowance), () => allowance.release())
  })

/** Runs work of this server itself without a limit, whichever request started it. */
export const withoutAllowance = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    Context.get(fiber.context, CurrentAllowance) === unlimited
      ? effect
      : Effect.provideService(effect, CurrentAllowance, unlimited)
  )

/**
 * Runs what takes long, as asking another server does, without the permit of a request of at most `smallRead` bytes, so that others can read
 * meanwhile. The request waits for its permit again afterwards. One with more bytes keeps its permits: it has the memory for which they are.
 */
export const whileWaiting = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const allowance = Context.get(fiber.context, CurrentAllowance)
    if (!(allowance instanceof RequestAllowance)) return effect
    return Effect.andThen(
      allowance.pause(),
      Effect.flatMap(Effect.exit(effect), (exit) => Effect.andThen(allowance.take(0), exit))
    )
  })

/** Counts bytes that were read at once. */
export const takeBytes = (bytes: number): Effect.Effect<void> =>
  Effect.withFiber((fiber) => Context.get(fiber.context, CurrentAllowance).take(bytes))

/** Of the bytes that were counted, so many are no longer in memory. */
export const giveBytes = (bytes: number): Effect.Effect<void> =>
  Effect.withFiber((fiber) => Context.get(fiber.context, CurrentAllowance).give(bytes))

/** Gives back what an effect has read when it has ended, because its result has nothing of it. */
export const givingBack = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const allowance = Context.get(fiber.context, CurrentAllowance)
    let bytes = 0
    const counting: Allowance = {
      take: (more) => {
        bytes += more
        return allowance.take(more)
      },
      takeNow: (more) => {
        if (!allowance.takeNow(more)) return false
        bytes += more
        return true
      },
      expect: (more) => allowance.expect(more),
      give: (less) => {
        bytes -= less
        return allowance.give(less)
      }
    }
    return Effect.tap(Effect.provideService(effect, CurrentAllowance, counting), () => allowance.give(bytes))
  })

/** Waits for the permits of a request with more than `smallRead` bytes. */
const expectLarge: Effect.Effect<void> = Effect.withFiber((fiber) =>
  Context.get(fiber.context, CurrentAllowance).expect(smallRead + 1)
)

/** How many rows are read before a request has to wait for its permit. So many events seldom have less than `smallRead` bytes. */
const firstRows = 4096

/** Waits for the permit of a read that is expected to have so many rows, before the database begins to look for them. */
export const expectRows = (rows: number): Effect.Effect<void> => (rows < firstRows ? Effect.void : expectLarge)

/** How many events have `smallRead` bytes at most. */
const smallEvents = smallRead / 65_536

/** Waits for the permit of a request that reads so many events in several steps, each of which is small. */
export const expectEvents = (events: number): Effect.Effect<void> => (events <= smallEvents ? Effect.void : expectLarge)

/** All rows of a query, of which the first are read before the permit for many. `limit` ends the query. */
export const readMany = <Row, E>(
  sql: SqlClient.SqlClient,
  query: (limit: Statement.Fragment) => Effect.Effect<ReadonlyArray<Row>, E>
): Effect.Effect<ReadonlyArray<Row>, E> =>
  Effect.flatMap(query(sql`LIMIT ${firstRows}`), (first) =>
    first.length < firstRows ? Effect.succeed(first) : Effect.andThen(expectRows(firstRows), query(sql``))
  )

/** A row with an event: its body, unless `bytes`, the size of all bodies up to this row, is more than `freeRead`. */
export interface SizedRow {
  readonly nid: bigint
  readonly body: string | null
  readonly bytes: bigint
}

export type Whole<Row> = Row & { readonly body: string }

/** How many bytes of bodies are fetched at once. */
const fetchedAtOnce = 4 * 1024 * 1024

/** A query whose rows end after so many bytes, for `readWithin`. */
export interface BoundedQuery<Row, E> {
  readonly query: (maxBytes: number) => Effect.Effect<ReadonlyArray<Row>, E>
  /** The bytes of rows, as far as they are known. */
  readonly bytesOf: (rows: ReadonlyArray<Row>) => number
  /** Whether `maxBytes` has left out something of the row. */
  readonly isCut: (row: Row) => boolean
  readonly maxBytes?: number
}

/**
 * The rows of a query that has counted them only when it has run. At first it reads `fetchedAtOnce` bytes. If there are more, or the permit
 * for these is not free, they are dropped, and read again with the permit: requests that wait have nothing in memory.
 */
export const readWithin = <Row, E>({
  bytesOf,
  isCut,
  maxBytes = Number.MAX_SAFE_INTEGER,
  query
}: BoundedQuery<Row, E>): Effect.Effect<ReadonlyArray<Row>, E> =>
  Effect.withFiber((fiber) => {
    const allowance = Context.get(fiber.context, CurrentAllowance)
    const withPermit = (bytes: number) =>
      Effect.andThen(
        allowance.take(bytes),
        Effect.tap(query(maxBytes), (rows) => allowance.take(bytesOf(rows) - bytes))
      )
    return Effect.flatMap(query(Math.min(fetchedAtOnce, maxBytes)), (rows) => {
      const bytes = bytesOf(rows)
      if (maxBytes > fetchedAtOnce && rows.some(isCut)) return withPermit(Math.max(bytes, smallRead + 1))
      return allowance.takeNow(bytes) ? Effect.succeed(rows) : withPermit(bytes)
    })
  })

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
  yield* takeBytes(bytes)
  if (first.length < firstRows) return first
  yield* expectRows(firstRows)
  const rows = yield* query(sql``)
  yield* takeBytes(Math.max(0, Number(rows.at(-1)?.bytes ?? 0) - bytes))
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
  sql.literal(`CASE WHEN sized.bytes <= ${freeRead} THEN sized.body END AS body, sized.bytes`)

/** The bytes of `events.body` of all rows up to this one, in the order in which they come. */
export const runningBytes = "sum(octet_length(events.body)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes"
