/**
 * Search in messages: matches of the full-text index that the user may see, with their context.
 *
 * Source: "Server Side Search" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { RoomEventFilter } from "@greenroom/protocol/client-server/Filter"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { BadRequest, InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { type HitPlace, SearchStore } from "@greenroom/store/SearchStore"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer, Result } from "effect"
import type { Session } from "../runtime/Session.ts"
import { makeRoomViewer } from "./internal/RoomViewer.ts"
import { makeSearchIndexing } from "./internal/SearchIndexing.ts"
import { type Found, makeSearchMatches, maxScanned } from "./internal/SearchMatches.ts"
import { makeSearchResults, type SearchResult, type WantedContext } from "./internal/SearchResults.ts"

/** The terms and the rooms of a search. */
export interface SearchRequest {
  readonly search_term: string
  readonly keys?: ReadonlyArray<string> | null | undefined
  readonly filter?: RoomEventFilter | null | undefined
  readonly order_by?: "rank" | "recent" | null | undefined
  readonly event_context?: WantedContext | null | undefined
  readonly include_state?: boolean | null | undefined
  readonly group_by: ReadonlyArray<"room_id" | "sender">
  readonly next_batch?: string | undefined
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
/** How many results a page has, and at most. */
const defaultPage = 10
const maxPage = 100
/** How long a search waits for the index to contain earlier messages. */
const indexTimeout = "5 seconds"
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
  const log = yield* EventLog
  const viewer = yield* makeRoomViewer
  const { indexAll } = yield* makeSearchIndexing
  const { collect, countOf } = yield* makeSearchMatches(viewer)
  const { resultsOf, stateOfRooms } = yield* makeSearchResults(viewer)

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
      results: yield* resultsOf(session, found, request.event_context ?? undefined),
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
