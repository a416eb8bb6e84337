/**
 * Pages of a timeline with the missing parts fetched: gaps within a page, and the history before all that this
 * server has, are fetched from other servers, within bounds. Used by every read that shows a part of a timeline.
 *
 * Source: "Backfilling and retrieving missing events" of the server-server specification.
 */
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { EventStore, type TimelineRange } from "@greenroom/store/EventStore"
import { giveBytes, whileWaiting } from "@greenroom/store/LargeReads"
import { beginning, comparePositions, type StreamPosition, theEnd } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { ask } from "../../runtime/Ask.ts"
import { Room } from "../RoomProtocol.ts"

/** How many events are fetched at once. */
const backfillSize = 100

/** How often history is fetched for one page, and how long all of it may take. */
export interface FillLimits {
  readonly rounds: number
  readonly timeout: "30 seconds" | "5 seconds"
}

/** For a reader who goes back in history: that is what it is for. */
export const pagingBack: FillLimits = { rounds: 10, timeout: "30 seconds" }

/** For reads that are mostly about local events. A fetch that takes longer continues, and the next read has its events. */
export const inPassing: FillLimits = { rounds: 2, timeout: "5 seconds" }

/** What a page covers. */
interface SeenPage {
  readonly count: number
  /** The position at the end of the page; undefined at the end of the timeline. */
  readonly end: StreamPosition | undefined
  /** Whether the range may have gaps. */
  readonly mayHaveGaps: boolean
}

/** A page as it was read. */
interface ReadPage<A> extends SeenPage {
  readonly page: A
  /** The bytes of its events, as they were counted. */
  readonly bytes: number
}

interface PageToFill<A> {
  readonly roomId: RoomId
  readonly range: TimelineRange
  readonly direction: "f" | "b"
  /** The page may go on before all that this server has. */
  readonly isOpen: boolean
  readonly read: Effect.Effect<ReadPage<A>>
  readonly limits: FillLimits
}

/** A page that is read until it is filled. */
interface Reading<A> {
  /** The page, unless other servers were asked since it was read: it is not kept in memory while this server waits for them. */
  kept: ReadPage<A> | undefined
  seen: SeenPage
}

/** Whether the page ends with all that this server has, and may go on before it. */
const isShort = ({ direction, isOpen }: PageToFill<unknown>, { end }: SeenPage): boolean =>
  direction === "b" && end === undefined && isOpen

export const makeGapFilling = Effect.gen(function* () {
  const events = yield* EventStore
  const room = yield* Room.client

  /** Fetches history from other servers; true if there is more of it now. */
  const backfill = (roomId: RoomId, at?: EventId) =>
    Effect.orElseSucceed(
      whileWaiting(ask(room(roomId).Backfill({ limit: backfillSize, ...(at === undefined ? {} : { at }) }))),
      () => false
    )

  const oldestOf = (roomNid: number) =>
    Effect.map(events.timelines([{ roomNid, after: beginning, upTo: theEnd }], "f", 1), ([oldest]) => oldest)

  /** Whether our history begins after that of the room. */
  const beginsLate = (roomNid: number) =>
    Effect.map(oldestOf(roomNid), (oldest) => oldest !== undefined && oldest.event.type !== "m.room.create")

  /** The part of the timeline that the page covers. Forwards, what came before all that is here is not part of it. */
  const covered = Effect.fnUntraced(function* <A>({ direction, range }: PageToFill<A>, { end }: SeenPage) {
    if (direction === "b") return { ...range, after: end ?? range.after }
    const isFromStart = comparePositions(range.after, beginning) === 0
    const after = isFromStart ? ((yield* oldestOf(range.roomNid))?.position ?? range.after) : range.after
    return { ...range, after, upTo: end ?? range.upTo }
  })

  /** The newest gap of the page up to a position. */
  const newestGap = Effect.fnUntraced(function* <A>(wanted: PageToFill<A>, page: SeenPage, newest: StreamPosition) {
    const { after, roomNid, upTo } = yield* covered(wanted, page)
    return yield* events.newestGap({ roomNid, after, upTo: comparePositions(newest, upTo) < 0 ? newest : upTo })
  })

  /** Reads the page. */
  const look = <A>({ read }: PageToFill<A>, reading: Reading<A>): Effect.Effect<void> =>
    Effect.map(read, (found) => {
      reading.kept = found
      reading.seen = { count: found.count, end: found.end, mayHaveGaps: found.mayHaveGaps }
    })

  const drop = <A>(reading: Reading<A>): Effect.Effect<void> => {
    const bytes = reading.kept?.bytes ?? 0
    reading.kept = undefined
    return giveBytes(bytes)
  }

  const fill = Effect.fnUntraced(function* <A>(wanted: PageToFill<A>, reading: Reading<A>) {
    let newest = theEnd
    for (let round = 0; round < wanted.limits.rounds; round++) {
      const { seen } = reading
      const gap = seen.mayHaveGaps ? yield* newestGap(wanted, seen, newest) : undefined
      if (gap === undefined && !(isShort(wanted, seen) && (yield* beginsLate(wanted.range.roomNid)))) return
      yield* drop(reading)
      const isFilled = yield* backfill(wanted.roomId, gap?.event.event_id)
      if (!isFilled && gap === undefined) return
      // A gap that cannot be filled does not keep others open.
      if (!isFilled) newest = { xid: gap!.position.xid, nid: gap!.position.nid - 2 }
      if (!isFilled) continue
      yield* look(wanted, reading)
      // The fetched events may not help: the reader may not see them, or wants others.
      if (reading.seen.count === seen.count && reading.seen.end === undefined && seen.end === undefined) return
    }
  })

  /** The page, read again after each fetch that brought something. Gaps are filled from the newest on. */
  return Effect.fnUntraced(function* <A>(wanted: PageToFill<A>): Effect.fn.Return<A> {
    const reading: Reading<A> = { kept: undefined, seen: { count: 0, end: undefined, mayHaveGaps: false } }
    yield* look(wanted, reading)
    if (reading.seen.mayHaveGaps || isShort(wanted, reading.seen)) {
      yield* Effect.timeoutOption(fill(wanted, reading), wanted.limits.timeout)
    }
    return (reading.kept ?? (yield* wanted.read)).page
  })
})
