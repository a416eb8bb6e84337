/**
 * Events by what they relate to: the children of an event, and the threads of a room.
 *
 * Source: "Relationships API" and "Threading" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { maxPageBytes } from "@greenroom/protocol/Pagination"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import { RelationStore, type Thread } from "@greenroom/store/RelationStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { beginning, comparePositions, positionBefore, type StreamPosition, theEnd } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer, Option } from "effect"
import type { Session } from "../runtime/Session.ts"
import { makeEventRenderer } from "./EventRenderer.ts"
import type { Reader } from "./HistoryVisibility.ts"
import { makeIgnoredUsers, withoutIgnored } from "./IgnoredUsers.ts"
import { makeRoomViewer } from "./internal/RoomViewer.ts"

const defaultPage = 20
const maxPage = 100
/** How far relations of relations are followed, and over how many events. */
const maxDepth = 3
const maxRelated = 1_000
/** To find threads in which the user has taken part, so many are read at once, and for one page. */
const threadsAtOnce = 100
const maxScannedThreads = 1_000

/** Selects related events. */
export interface RelationsRequest {
  readonly relType?: string | undefined
  readonly eventType?: string | undefined
  readonly from?: string | undefined
  readonly to?: string | undefined
  readonly dir?: "f" | "b" | undefined
  readonly limit?: number | undefined
  /** Whether the answer has the events that relate to the children, too. */
  readonly recurse?: boolean | undefined
}

/** A page of related events. */
export interface RelatedEvents {
  readonly chunk: ReadonlyArray<ClientServerEvent>
  readonly next_batch?: string
  readonly prev_batch?: string
  readonly recursion_depth?: number
}

/** Selects threads. */
export interface ThreadsRequest {
  readonly participated: boolean
  readonly from?: string | undefined
  readonly limit?: number | undefined
}

const pageSize = (limit: number | undefined): number => Math.min(Math.max(limit ?? defaultPage, 1), maxPage)

const make = Effect.gen(function* () {
  const events = yield* EventStore
  const rooms = yield* RoomStore
  const store = yield* RelationStore
  const ignoredUsers = yield* makeIgnoredUsers
  const viewer = yield* makeRoomViewer
  const log = yield* EventLog
  const renderer = yield* makeEventRenderer

  /** The event, and with `recurse` what relates to it at some distance: the events whose children are asked for. */
  const parentsOf = Effect.fnUntraced(function* (roomNid: number, eventId: EventId, recurse: boolean) {
    const parents = new Set([eventId])
    let last: ReadonlyArray<EventId> = [eventId]
    let depth = 0
    while (recurse && depth < maxDepth && last.length > 0 && parents.size < maxRelated) {
      const children = yield* store.childIds(roomNid, last, maxRelated - parents.size)
      last = children.filter((id) => !parents.has(id))
      for (const id of last) parents.add(id)
      depth++
    }
    return { parents: [...parents], depth }
  })

  const related = Effect.fn("Relations.related")(function* (
    session: Session,
    roomId: RoomId,
    eventId: EventId,
    request: RelationsRequest
  ): Effect.fn.Return<RelatedEvents, MatrixError> {
    const seen = yield* Effect.mapError(viewer.view(session.userId, roomId), () => viewer.notSeen(eventId))
    yield* viewer.visibleEvent(seen, roomId, eventId)
    const { roomNid } = seen.reader
    const direction = request.dir ?? "b"
    const from = request.from === undefined ? undefined : yield* viewer.positionOf(request.from, "from")
    const to = request.to === undefined ? undefined : yield* viewer.positionOf(request.to, "to")
    const limit = pageSize(request.limit)
    const { depth, parents } = yield* parentsOf(roomNid, eventId, request.recurse ?? false)
    const range: { readonly after: StreamPosition; readonly upTo: StreamPosition } =
      direction === "b"
        ? { after: to ?? beginning, upTo: from ?? theEnd }
        : { after: from ?? beginning, upTo: to ?? theEnd }
    const { eventType, relType } = request
    const { cut, events: found } = yield* store.children({
      roomNid,
      parents,
      relType,
      eventType,
      ...range,
      direction,
      limit: limit + 1,
      maxBytes: maxPageBytes
    })
    const page = found.slice(0, limit)
    const last = page.at(-1)
    const visible = yield* viewer.visibleTo(seen.reader, page)
    const shown = withoutIgnored(yield* ignoredUsers.of(session.userId), visible)
    return {
      chunk: yield* renderer.renderTimeline(session, seen.reader, shown),
      ...((cut || found.length > limit) && last !== undefined
        ? { next_batch: yield* log.tokenOf(direction === "b" ? positionBefore(last.position) : last.position) }
        : {}),
      ...(request.from === undefined ? {} : { prev_batch: request.from }),
      ...(request.recurse ? { recursion_depth: depth } : {})
    }
  })

  /** Threads of others that an ignored user has begun are shown, without what that user wrote. */
  const withoutIgnoredContent = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    roots: ReadonlyArray<StoredEvent>
  ) {
    const ignored = yield* ignoredUsers.of(userId)
    const id = ignored.size === 0 ? undefined : Option.getOrUndefined(yield* rooms.version(roomId))
    const version = id === undefined ? undefined : roomVersion(id)
    return roots.map((root) =>
      version !== undefined && ignored.has(root.event.sender) ? { ...root, event: version.redact(root.event) } : root
    )
  })

  /** A page of the threads of a room, and the position before which the next one begins. */
  const threadsBefore = Effect.fnUntraced(function* (
    { roomNid, userId }: Reader,
    before: StreamPosition,
    limit: number,
    participated: boolean
  ) {
    const size = participated ? threadsAtOnce : limit
    const page: Array<Thread> = []
    let end = before
    for (let scanned = 0; scanned < maxScannedThreads; scanned += size) {
      const found = yield* store.threads(roomNid, userId, end, size)
      for (const thread of found) {
        end = thread.latest
        if (thread.participated || !participated) page.push(thread)
        if (page.length === limit) return { page, end }
      }
      if (found.length < size) return { page, end: undefined }
    }
    return { page, end }
  })

  const threads = Effect.fn("Relations.threads")(function* (session: Session, roomId: RoomId, request: ThreadsRequest) {
    const seen = yield* viewer.view(session.userId, roomId)
    const limit = pageSize(request.limit)
    const from = request.from === undefined ? theEnd : yield* viewer.positionOf(request.from, "from")
    const { end, page } = yield* threadsBefore(seen.reader, from, limit, request.participated)
    const roots = new Map((yield* events.byIds(page.map(({ root }) => root))).map((s) => [s.event.event_id, s]))
    const ordered = page.flatMap(({ root }) => roots.get(root) ?? [])
    const visible = yield* viewer.visibleTo(seen.reader, ordered)
    const shown = yield* withoutIgnoredContent(session.userId, roomId, visible)
    return {
      chunk: yield* renderer.renderTimeline(session, seen.reader, shown),
      ...(end === undefined || comparePositions(end, beginning) <= 0 ? {} : { next_batch: yield* log.tokenOf(end) })
    }
  })

  return Relations.of({ related, threads })
})

/** The events that relate to an event, and the threads of a room. */
export class Relations extends Context.Service<
  Relations,
  {
    /** The events that relate to an event. Users who may see the event. Errors: M_NOT_FOUND, M_INVALID_PARAM. */
    readonly related: (
      session: Session,
      roomId: RoomId,
      eventId: EventId,
      request: RelationsRequest
    ) => Effect.Effect<RelatedEvents, MatrixError>
    /** The events that begin threads, by the newest event of each. Users who may see the room. */
    readonly threads: (
      session: Session,
      roomId: RoomId,
      request: ThreadsRequest
    ) => Effect.Effect<{ readonly chunk: ReadonlyArray<ClientServerEvent>; readonly next_batch?: string }, MatrixError>
  }
>()("greenroom/actors/Relations") {
  static readonly layer = Layer.effect(Relations, make)
}
