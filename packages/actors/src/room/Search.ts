/**
 * Search in messages: matches of the full-text index that the user may see, with their context.
 *
 * Source: "Server Side Search" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { RoomEventFilter } from "@greenroom/protocol/client-server/Filter"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadRequest, InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import { type HitPlace, type RoomMatches, type SearchHit, SearchStore } from "@greenroom/store/SearchStore"
import { StateStore } from "@greenroom/store/StateStore"
import { beginning, type StreamPosition } from "@greenroom/store/StreamToken"
import { keepRunning } from "@greenroom/store/Supervision"
import { Context, Duration, Effect, Latch, Layer, Result } from "effect"
import type { Session } from "../runtime/Session.ts"
import { makeEventRenderer } from "./EventRenderer.ts"
import { makeEventSelections } from "./EventSelection.ts"
import { makeHistoryVisibility } from "./HistoryVisibility.ts"
import { makeIgnoredUsers, withoutIgnored } from "./IgnoredUsers.ts"
import { before, makeRoomViewer, theEnd, type View } from "./internal/RoomViewer.ts"

/** The terms and the rooms of a search. */
export interface SearchRequest {
  readonly search_term: string
  readonly keys?: ReadonlyArray<string> | null | undefined
  readonly filter?: RoomEventFilter | null | undefined
  readonly order_by?: "rank" | "recent" | null | undefined
  readonly event_context?:
    | {
        readonly before_limit?: number | null | undefined
        readonly after_limit?: number | null | undefined
        readonly include_profile?: boolean | null | undefined
      }
    | null
    | undefined
  readonly include_state?: boolean | null | undefined
  readonly group_by: ReadonlyArray<"room_id" | "sender">
  readonly next_batch?: string | undefined
}

interface ContextOfResult {
  readonly start: string
  readonly end: string
  readonly events_before: ReadonlyArray<ClientServerEvent>
  readonly events_after: ReadonlyArray<ClientServerEvent>
  readonly profile_info?: JsonObject
}

interface SearchResult {
  readonly rank: number
  readonly result: ClientServerEvent
  readonly context?: ContextOfResult
}

interface Group {
  readonly order: number
  readonly results: ReadonlyArray<EventId>
}

/** A page of matches. */
export interface SearchAnswer {
  readonly count: number
  readonly highlights: ReadonlyArray<string>
  readonly results: ReadonlyArray<SearchResult>
  readonly state?: { readonly [roomId: string]: ReadonlyArray<ClientServerEvent> }
  readonly groups?: { readonly [key: string]: { readonly [value: string]: Group } }
  readonly next_batch?: string
}

const allKeys = ["content.body", "content.name", "content.topic"]

/** How long a search term may be, in UTF-16 code units, and how many words it may have. */
const maxTerm = 1_024
const maxWords = 64
/** How many results a page has, and at most; how many events around a result. */
const defaultPage = 10
const maxPage = 100
const defaultContext = 5
const maxContext = 25
/** The most matches that are examined for one page, and how many of their events are read at once. */
const maxScanned = 1_000
const chunkSize = 50
/** How long a search waits for the index to contain earlier messages. */
const indexTimeout = "2 seconds"
/**
 * The part of the time that indexing takes while events come, by how many are missing. As many as a search can wait for are left to a
 * pause: PostgreSQL indexes 20,000 in about a second.
 */
const indexingShare = (missing: number): number => (missing < 20_000 ? 0.01 : missing < 1_000_000 ? 0.1 : 1)

/**
 * The start of a page: after a hit, among the matches up to the position of the first page. Numbers of hits would tell how many there
 * are that the user may not see.
 */
interface Place {
  readonly upTo: StreamPosition
  readonly after: HitPlace | undefined
}

const formatPage = (upTo: StreamPosition, { position, rank }: HitPlace): string =>
  Buffer.from([upTo.xid, upTo.nid, position.xid, position.nid, rank].join(" ")).toString("base64url")

const placePattern = /^([0-9]{1,16}) (-?[0-9]{1,16}) ([0-9]{1,16}) (-?[0-9]{1,16}) ([0-9][0-9.e-]{0,30})$/

const parsePage = (token: string): Result.Result<Place, MatrixError> => {
  const numbers = placePattern
    .exec(Buffer.from(token.slice(0, 200), "base64url").toString())
    ?.slice(1)
    .map(Number)
  if (numbers === undefined || numbers.some(Number.isNaN)) {
    return Result.fail(new InvalidParam({ error: "next_batch: is not a token of this server" }))
  }
  const [upToXid, upToNid, xid, nid, rank] = numbers as [number, number, number, number, number]
  return Result.succeed({ upTo: { xid: upToXid, nid: upToNid }, after: { rank, position: { xid, nid } } })
}

const wordsOf = (term: string): ReadonlyArray<string> => [
  ...new Set(term.toLowerCase().match(/[\p{L}\p{N}\p{M}]+/gu) ?? [])
]

interface Found {
  readonly stored: StoredEvent
  readonly view: View
  readonly hit: SearchHit
}

const groupBy = (found: ReadonlyArray<Found>, key: "room_id" | "sender"): { readonly [value: string]: Group } => {
  const groups = Map.groupBy(found, ({ stored: { event } }) => event[key] as string)
  return Object.fromEntries(
    Array.from(groups, ([value, members], order) => [
      value,
      { order: order + 1, results: members.map(({ stored }) => stored.event.event_id) }
    ])
  )
}

const make = Effect.gen(function* () {
  const store = yield* SearchStore
  const events = yield* EventStore
  const states = yield* StateStore
  const log = yield* EventLog
  const { scan, stateOf, view, visibleTo } = yield* makeRoomViewer
  const selectionOf = yield* makeEventSelections
  const ignoredUsers = yield* makeIgnoredUsers
  const { openTo } = yield* makeHistoryVisibility
  const renderer = yield* makeEventRenderer

  // The index follows the log; searches bring it up to date. While many events come it leaves the processors to them.
  let seen = 0
  let indexed = Number.NEGATIVE_INFINITY
  const grown = Latch.makeUnsafe(true)
  yield* log.follow((slice) =>
    Effect.sync(() => {
      if (slice.events.length === 0) return
      seen += slice.events.length
      grown.openUnsafe()
    })
  )
  const indexAll = Effect.suspend(() => {
    const before = seen
    const repeated = Effect.repeat(store.indexNext, { until: (isDone) => isDone })
    return Effect.map(repeated, () => {
      indexed = Math.max(indexed, before)
    })
  })
  const follow = Effect.gen(function* () {
    yield* grown.await
    const before = seen
    const [took, isDone] = yield* Effect.timed(store.indexNext)
    if (isDone) {
      indexed = Math.max(indexed, before)
      if (seen === before) grown.closeUnsafe()
      yield* Effect.sleep("1 second")
    } else if (seen > before) yield* Effect.sleep(Duration.times(took, 1 / indexingShare(seen - indexed) - 1))
  })
  yield* keepRunning("Indexing what is said in rooms", follow)

  const check = Effect.fnUntraced(function* ({ keys, search_term }: SearchRequest) {
    const words = wordsOf(search_term)
    if (search_term.length > maxTerm || words.length > maxWords) {
      return yield* new InvalidParam({ error: `search_term: has more than ${maxTerm} characters or ${maxWords} words` })
    }
    const unknown = keys?.find((key) => !allKeys.includes(key))
    if (unknown !== undefined)
      return yield* new InvalidParam({ error: `keys: ${unknown.slice(0, 64)} cannot be searched` })
    return words
  })

  /** Reads on until `limit` matches pass the filter and may be seen. */
  const collect = Effect.fnUntraced(function* (
    session: Session,
    hits: ReadonlyArray<SearchHit>,
    filter: RoomEventFilter | undefined,
    limit: number
  ) {
    const selection = selectionOf(filter)
    const ignored = yield* ignoredUsers.of(session.userId)
    const views = new Map<RoomId, View | undefined>()
    const found: Array<Found> = []
    for (let start = 0; start < hits.length; start += chunkSize) {
      const chunk = hits.slice(start, start + chunkSize)
      const stored = new Map(
        (yield* events.byIds(chunk.map(({ eventId }) => eventId))).map((storedEvent) => [
          storedEvent.event.event_id,
          storedEvent
        ])
      )
      const shown = new Map<EventId, View>()
      for (const [roomId, ofRoom] of Map.groupBy(stored.values(), ({ event }) => event.room_id)) {
        if (!views.has(roomId))
          views.set(roomId, yield* Effect.orElseSucceed(view(session.userId, roomId), () => undefined))
        const seen = views.get(roomId)
        if (seen === undefined) continue
        const live = ofRoom.filter(({ event }) => event.unsigned?.redacted_because === undefined)
        const visible = withoutIgnored(ignored, yield* visibleTo(seen.reader, live))
        const passed = yield* selection.of(seen.reader.roomNid, visible)
        for (const { event } of passed) shown.set(event.event_id, seen)
      }
      for (const hit of chunk) {
        const seen = shown.get(hit.eventId)
        if (seen === undefined) continue
        found.push({ stored: stored.get(hit.eventId)!, view: seen, hit })
        if (found.length === limit) return { found, last: hit }
      }
    }
    return { found, last: hits.length === maxScanned ? hits.at(-1) : undefined }
  })

  /** The matches in rooms in which the user sees everything, and the results in others. */
  const countOf = Effect.fnUntraced(function* (
    { userId }: Session,
    rooms: ReadonlyArray<RoomMatches>,
    found: ReadonlyArray<Found>
  ) {
    const open = yield* openTo(
      rooms.map(({ membership, roomNid }) => ({ userId, roomNid, isJoined: membership === "join", leftAt: undefined }))
    )
    const inOpen = rooms.reduce((sum, { count, roomNid }) => (open.has(roomNid) ? sum + count : sum), 0)
    return inOpen + found.filter(({ view: { reader } }) => !open.has(reader.roomNid)).length
  })

  const profilesOf = Effect.fnUntraced(function* ({ stored, view: seen }: Found, senders: ReadonlyArray<UserId>) {
    const ref = stored.stateBefore ?? seen.state
    const keys = [...new Set(senders)].map((sender) => ["m.room.member", sender] as const)
    const members = yield* states.read([{ roomNid: seen.reader.roomNid, ref }], { keys })
    return Object.fromEntries(
      members.map(({ event: { content, state_key } }) => [
        state_key,
        {
          ...(typeof content.displayname === "string" ? { displayname: content.displayname } : {}),
          ...(typeof content.avatar_url === "string" ? { avatar_url: content.avatar_url } : {})
        }
      ])
    ) as JsonObject
  })

  const limitOf = (given: number | null | undefined) => Math.min(given ?? defaultContext, maxContext)
  const nothing = { found: [], end: undefined }

  const contextOf = Effect.fnUntraced(function* (
    session: Session,
    hit: Found,
    wanted: NonNullable<SearchRequest["event_context"]>
  ): Effect.fn.Return<ContextOfResult> {
    const { stored, view: seen } = hit
    const [older, newer] = [limitOf(wanted.before_limit), limitOf(wanted.after_limit)]
    const past = { after: beginning, upTo: before(stored) }
    const future = { after: stored.position, upTo: theEnd }
    const earlier = older === 0 ? nothing : yield* scan(seen.reader, past, "b", older, undefined)
    const later = newer === 0 ? nothing : yield* scan(seen.reader, future, "f", newer, undefined)
    const [first, last] = [earlier.found.at(-1) ?? stored, later.found.at(-1) ?? stored]
    const around = [...earlier.found, stored, ...later.found].map(({ event }) => event.sender)
    return {
      start: yield* log.tokenOf(before(first)),
      end: yield* log.tokenOf(last.position),
      events_before: yield* renderer.render(
        session,
        earlier.found.map(({ event }) => event)
      ),
      events_after: yield* renderer.render(
        session,
        later.found.map(({ event }) => event)
      ),
      ...(wanted.include_profile ? { profile_info: yield* profilesOf(hit, around) } : {})
    }
  })

  const resultOf = Effect.fnUntraced(function* (session: Session, found: Found, request: SearchRequest) {
    const { hit, stored, view: seen } = found
    const [result] = yield* renderer.renderTimeline(session, seen.reader, [stored])
    return {
      rank: hit.rank,
      result: result!,
      ...(request.event_context == null ? {} : { context: yield* contextOf(session, found, request.event_context) })
    }
  })

  const stateOfRooms = Effect.fnUntraced(function* (session: Session, found: ReadonlyArray<Found>) {
    const rooms = new Map(found.map(({ stored, view: seen }) => [stored.event.room_id, seen]))
    const entries = yield* Effect.forEach(rooms, ([roomId, seen]) =>
      Effect.map(
        Effect.flatMap(stateOf(seen), (state) => renderer.render(session, state)),
        (state) => [roomId, state] as const
      )
    )
    return Object.fromEntries(entries)
  })

  const search = Effect.fn("Search.search")(function* (
    session: Session,
    request: SearchRequest
  ): Effect.fn.Return<SearchAnswer, MatrixError> {
    const highlights = yield* check(request)
    if (highlights.length === 0) return { count: 0, highlights: [], results: [] }
    yield* Effect.timeoutOption(Effect.andThen(log.caughtUp, indexAll), indexTimeout)
    const filter = request.filter ?? undefined
    const start =
      request.next_batch === undefined
        ? { upTo: yield* log.currentPosition, after: undefined }
        : yield* Effect.fromResult(parsePage(request.next_batch))
    const matches = yield* store.search({
      userId: session.userId,
      term: request.search_term.toWellFormed().replaceAll("\0", " "),
      keys: request.keys ?? allKeys,
      order: request.order_by ?? "rank",
      rooms: filter?.rooms ?? undefined,
      notRooms: filter?.not_rooms ?? undefined,
      ...start,
      limit: maxScanned
    })
    if (matches === undefined) return yield* new BadRequest({ error: "The search took too long: ask for less" })
    const limit = Math.max(1, Math.min(filter?.limit ?? defaultPage, maxPage))
    // A full page may be the last one: then an empty page follows it, as clients know it from other servers.
    const { found, last } = yield* collect(session, matches.hits, filter, limit)
    return {
      count: yield* countOf(session, matches.rooms, found),
      highlights,
      results: yield* Effect.forEach(found, (each) => resultOf(session, each, request)),
      ...(request.include_state ? { state: yield* stateOfRooms(session, found) } : {}),
      ...(request.group_by.length === 0
        ? {}
        : { groups: Object.fromEntries(request.group_by.map((key) => [key, groupBy(found, key)])) }),
      ...(last === undefined ? {} : { next_batch: formatPage(start.upTo, last) })
    }
  })

  return Search.of({ search })
})

/** Full-text search in messages. */
export class Search extends Context.Service<
  Search,
  {
    /**
     * A page of results in rooms that the user is in or has left, as far as the user may see them. Errors:
     * M_INVALID_PARAM, M_UNKNOWN for a search that takes too long.
     */
    readonly search: (session: Session, request: SearchRequest) => Effect.Effect<SearchAnswer, MatrixError>
  }
>()("greenroom/actors/Search") {
  static readonly layer = Layer.effect(Search, make)
}
