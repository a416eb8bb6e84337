/**
 * Pages of a room's timeline, and the context of an event: what the reader may see, with the gaps filled from other servers.
 *
 * Source: `GET /rooms/{roomId}/messages` and `GET /rooms/{roomId}/context/{eventId}` of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { RoomEventFilter } from "@greenroom/protocol/client-server/Filter"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, MissingParam } from "@greenroom/protocol/MatrixError"
import { maxPageBytes } from "@greenroom/protocol/Pagination"
import { EventLog, type StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore, type TimelineRange } from "@greenroom/store/EventStore"
import { StateStore } from "@greenroom/store/StateStore"
import { beginning, comparePositions, laterPosition, positionBefore, theEnd } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import type { Session } from "../../runtime/Session.ts"
import type { EventRenderer } from "../EventRenderer.ts"
import { makeEventSelections } from "../EventSelection.ts"
import { type FillLimits, inPassing, makeGapFilling, pagingBack } from "./GapFilling.ts"
import { noScan, type RoomViewer, type Scan, type View } from "./RoomViewer.ts"

const maxPage = 1_000
const defaultPage = 10

/** Selects a page of messages. */
export interface MessagesRequest {
  readonly from?: string | undefined
  readonly to?: string | undefined
  /** Required. */
  readonly dir: "f" | "b" | undefined
  readonly limit?: number | undefined
  /** If it has `lazy_load_members`, the answer has the memberships of the senders. */
  readonly filter?: RoomEventFilter | undefined
  /** Reads a room in which the user need not be. The caller has checked that the user is an administrator. */
  readonly asAdministrator?: boolean | undefined
}

export interface ContextRequest extends Pick<MessagesRequest, "filter" | "asAdministrator"> {
  /** Of the events around. */
  readonly limit?: number | undefined
}

/** A page of messages, with the tokens at its ends. */
export interface MessagesPage {
  readonly start: string
  /** Absent if there is nothing more. */
  readonly end?: string
  readonly chunk: ReadonlyArray<ClientServerEvent>
  readonly state?: ReadonlyArray<ClientServerEvent>
}

/** An event with the events around it, and the state there. */
export interface EventContext {
  readonly event: ClientServerEvent
  readonly events_before: ReadonlyArray<ClientServerEvent>
  readonly events_after: ReadonlyArray<ClientServerEvent>
  readonly start: string
  readonly end: string
  readonly state: ReadonlyArray<ClientServerEvent>
}

export const makeTimelinePages = Effect.fnUntraced(function* (viewer: RoomViewer, renderer: EventRenderer) {
  const { administratorsView, positionOf, scan, shownEvent, stateOf, view } = viewer
  const states = yield* StateStore
  const events = yield* EventStore
  const log = yield* EventLog
  const filled = yield* makeGapFilling
  const selectionOf = yield* makeEventSelections

  /** A part of the timeline as the reader sees it, with what was missing in it. */
  const filledScan = (
    { reader }: View,
    roomId: RoomId,
    { after, upTo }: Omit<TimelineRange, "roomNid">,
    direction: "f" | "b",
    limit: number,
    filter: RoomEventFilter | undefined,
    limits: FillLimits,
    maxBytes?: number
  ): Effect.Effect<Scan> =>
    filled({
      roomId,
      direction,
      range: { roomNid: reader.roomNid, after, upTo },
      isOpen: comparePositions(after, beginning) === 0,
      read: Effect.map(scan(reader, { after, upTo }, direction, limit, filter, maxBytes), (page) => ({
        page,
        count: page.found.length,
        end: page.end,
        bytes: page.kept,
        mayHaveGaps: page.mayHaveGaps
      })),
      limits
    })

  const messages = Effect.fn("RoomReader.messages")(function* (
    session: Session,
    roomId: RoomId,
    request: MessagesRequest
  ): Effect.fn.Return<MessagesPage, MatrixError> {
    const { asAdministrator, dir } = request
    const seen = yield* (asAdministrator ? administratorsView : view)(session.userId, roomId)
    if (dir === undefined) return yield* new MissingParam({ error: "dir: missing key" })
    const limit = Math.min(request.limit ?? defaultPage, maxPage)
    const from =
      request.from === undefined ? (dir === "b" ? theEnd : beginning) : yield* positionOf(request.from, "from")
    const to = request.to === undefined ? (dir === "b" ? beginning : theEnd) : yield* positionOf(request.to, "to")
    const range = dir === "b" ? { after: to, upTo: from } : { after: from, upTo: to }
    const limits = dir === "b" ? pagingBack : inPassing
    const page = yield* filledScan(seen, roomId, range, dir, limit, request.filter, limits)
    const newest = page.found[0]?.position ?? beginning
    // Another node may have committed what was found, and this one not have followed the log so far.
    const start = comparePositions(from, theEnd) === 0 ? laterPosition(yield* log.currentPosition, newest) : from
    // A page with events has a next position, an empty page is the last one: forwards events may come, and clients of both directions
    // read `end` of every page that has events.
    const last = page.found.at(-1)
    const next = page.end ?? (last === undefined || dir === "f" ? last?.position : positionBefore(last.position))
    const end = limit === 0 ? start : next
    return {
      start: yield* log.tokenOf(start),
      ...(end === undefined ? {} : { end: yield* log.tokenOf(end) }),
      chunk: yield* renderer.renderTimeline(session, seen.reader, page.found),
      ...(request.filter?.lazy_load_members ? { state: yield* membersFor(session, seen, page.found) } : {})
    }
  })

  /** The memberships of the senders. */
  const membersFor = Effect.fnUntraced(function* (session: Session, seen: View, page: ReadonlyArray<StreamedEvent>) {
    const senders = [...new Set(page.map(({ event }) => event.sender))]
    const keys = senders.map((sender) => ["m.room.member", sender] as const)
    return yield* renderer.render(session, keys.length === 0 ? [] : yield* stateOf(seen, { keys }))
  })

  const context = Effect.fn("RoomReader.context")(function* (
    session: Session,
    roomId: RoomId,
    eventId: EventId,
    request: ContextRequest
  ): Effect.fn.Return<EventContext, MatrixError> {
    const { asAdministrator, filter } = request
    const seen = yield* (asAdministrator ? administratorsView : view)(session.userId, roomId)
    const centre = yield* shownEvent(seen, roomId, eventId)
    const limit = Math.min(request.limit ?? defaultPage, maxPage)
    const lazyMembers = filter?.lazy_load_members ?? false
    const scanAround = (range: Omit<TimelineRange, "roomNid">, direction: "f" | "b", size: number) =>
      filledScan(seen, roomId, range, direction, size, filter, inPassing, maxPageBytes / 2)
    const [older, newer] = yield* Effect.all([
      limit === 0
        ? Effect.succeed(noScan(positionBefore(centre.position)))
        : scanAround({ after: beginning, upTo: positionBefore(centre.position) }, "b", Math.ceil(limit / 2)),
      limit < 2
        ? Effect.succeed(noScan(centre.position))
        : scanAround({ after: centre.position, upTo: theEnd }, "f", Math.floor(limit / 2))
    ])
    const last = newer.found.at(-1) ?? centre
    const [stored] = yield* events.byIds([last.event.event_id])
    const ref = stored?.stateAfter ?? stored?.stateBefore ?? seen.state
    const timeline = [centre, ...older.found, ...newer.found]
    const members = [...new Set(timeline.map(({ event }) => event.sender))].map(
      (sender) => ["m.room.member", sender] as const
    )
    const at = [{ roomNid: seen.reader.roomNid, ref }]
    const state = lazyMembers
      ? [...(yield* states.read(at, { except: "m.room.member" })), ...(yield* states.read(at, { keys: members }))]
      : yield* states.read(at)
    const wanted = yield* selectionOf(filter).of(seen.reader.roomNid, state)
    const [event, ...around] = yield* renderer.renderTimeline(session, seen.reader, timeline)
    return {
      event: event!,
      events_before: around.slice(0, older.found.length),
      events_after: around.slice(older.found.length),
      start: yield* log.tokenOf(older.end ?? positionBefore((older.found.at(-1) ?? centre).position)),
      end: yield* log.tokenOf(newer.end ?? last.position),
      state: yield* renderer.render(
        session,
        wanted.map(({ event }) => event)
      )
    }
  })

  return { messages, context }
})
