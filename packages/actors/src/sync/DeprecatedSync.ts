/**
 * The event stream and the initial sync of today's API that `/sync` has replaced, made of answers to `/sync` and, for rooms
 * that the user is not in, of `RoomReader`. Their tokens are those of `/sync`.
 *
 * Source: "GET /events", "GET /initialSync" and "GET /rooms/{roomId}/initialSync" of the client-server specification.
 */
import type { ClientServerEvent, StrippedEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { withAllowance } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { PublicRoomStore } from "@greenroom/store/PublicRoomStore"
import { Context, Effect, Layer } from "effect"
import { RoomReader } from "../room/RoomReader.ts"
import type { Session } from "../runtime/Session.ts"
import { makeReadToken } from "../runtime/StreamTokens.ts"
import { Feeds } from "./Feeds.ts"
import type { SyncedPresence } from "./internal/SyncPresence.ts"
import { Sync } from "./Sync.ts"
import type { SimpleEvent, SyncAnswer, SyncedRoom } from "./SyncAnswer.ts"

/** How many events of a room an answer has: by default, and at most. */
const defaultLimit = 10
const maxLimit = 1_000
const maxTimeout = 300_000

/** Events after a token, and the token to continue from. */
export interface EventChunk {
  readonly start: string
  readonly end: string
  readonly chunk: ReadonlyArray<object>
}

/** A room as the initial sync has it. */
export interface InitialRoom {
  readonly room_id: RoomId
  readonly membership?: string
  readonly visibility: "public" | "private"
  readonly messages?: EventChunk
  readonly state?: ReadonlyArray<object>
  readonly account_data?: ReadonlyArray<SimpleEvent>
  /** The invitation, for a user who is invited. */
  readonly invite?: object
  readonly inviter?: string
}

/** The answer of `initialSync`. */
export interface InitialSync {
  readonly end: string
  readonly presence: ReadonlyArray<object>
  readonly account_data: ReadonlyArray<SimpleEvent>
  readonly receipts: ReadonlyArray<object>
  readonly rooms: ReadonlyArray<InitialRoom>
}

/** A request for the events after a token. */
export interface EventsRequest {
  readonly from?: string | undefined
  /** How long to wait for something, in ms. */
  readonly timeout: number
}

/** Presence events had the user in their content. */
const presenceEvent = ({ content, sender, type }: SyncedPresence) => ({
  type,
  sender,
  content: { ...content, user_id: sender }
})

const inRoom = (roomId: string, events: ReadonlyArray<object> = []) =>
  events.map((event) => ({ ...event, room_id: roomId }))

/** The news of a room as one list of events. State before the timeline is news only if there is a gap. */
const eventsOf = (roomId: string, { account_data, ephemeral, state, timeline }: SyncedRoom) => [
  ...inRoom(roomId, state?.events),
  ...inRoom(roomId, timeline.events),
  ...inRoom(roomId, ephemeral?.events),
  ...inRoom(roomId, account_data?.events)
]

const strippedOf = (events: ReadonlyArray<unknown>) => events as ReadonlyArray<StrippedEvent>

const isOwnMembership = ({ event_id, type }: StrippedEvent): boolean =>
  event_id !== undefined && type === "m.room.member"

const toChunk = ({ account_data, presence, rooms }: SyncAnswer): ReadonlyArray<object> => [
  ...[...Object.entries(rooms.join), ...Object.entries(rooms.leave)].flatMap(([roomId, room]) =>
    eventsOf(roomId, room)
  ),
  ...Object.entries(rooms.invite).flatMap(([roomId, { invite_state }]) =>
    inRoom(roomId, strippedOf(invite_state.events).filter(isOwnMembership))
  ),
  ...presence.events.map(presenceEvent),
  ...account_data.events
]

const toInitialRoom = (roomId: string, membership: string, isListed: boolean, room: SyncedRoom, end: string) => ({
  room_id: roomId as RoomId,
  membership,
  visibility: isListed ? ("public" as const) : ("private" as const),
  messages: { start: room.timeline.prev_batch, end, chunk: inRoom(roomId, room.timeline.events) },
  state: inRoom(roomId, room.state_after?.events),
  account_data: room.account_data?.events ?? []
})

const isReceipt = ({ type }: SimpleEvent) => type === "m.receipt"

const receiptsOf = (roomId: string, { ephemeral }: SyncedRoom) =>
  inRoom(roomId, (ephemeral?.events ?? []).filter(isReceipt))

const make = Effect.gen(function* () {
  const sync = yield* Sync
  const reader = yield* RoomReader
  const log = yield* EventLog
  const eventStore = yield* EventStore
  const publicRooms = yield* PublicRoomStore
  const feeds = yield* Feeds
  const readToken = yield* makeReadToken

  /** Wakes readers that wait for events of a room that they are not in. */
  const watching = new Map<RoomId, Set<() => void>>()
  yield* log.follow(({ events }) =>
    Effect.sync(() => {
      if (watching.size === 0) return
      for (const { event } of events) for (const wake of watching.get(event.room_id) ?? []) wake()
    })
  )

  const watch = (roomId: RoomId, wake: () => void) =>
    Effect.acquireRelease(
      Effect.sync(() => watching.set(roomId, (watching.get(roomId) ?? new Set()).add(wake))),
      () =>
        Effect.sync(() => {
          const watchers = watching.get(roomId)
          watchers?.delete(wake)
          if (watchers?.size === 0) watching.delete(roomId)
        })
    )

  const now = Effect.flatMap(Effect.andThen(log.caughtUp, log.currentPosition), (position) => log.tokenOf(position))

  const events = Effect.fn("DeprecatedSync.events")(function* (session: Session, { from, timeout }: EventsRequest) {
    // `/sync` answers a token of a lost future with all rooms, which here would be shown as news. The client reads them by `initialSync`.
    if (from !== undefined) {
      yield* Effect.mapError(readToken(from), ({ reason }) => new InvalidParam({ error: `from: ${reason}` }))
    }
    const start = from ?? (yield* now)
    const filter = JSON.stringify({ room: { timeline: { limit: maxLimit } } })
    const answer = yield* sync.sync(session, { since: start, filter, timeout })
    return { start, end: answer.next_batch, chunk: toChunk(answer) }
  })

  const roomEvents = Effect.fn("DeprecatedSync.roomEvents")(function* (
    session: Session,
    roomId: RoomId,
    { from, timeout }: EventsRequest
  ): Effect.fn.Return<EventChunk, MatrixError> {
    const start = from ?? (yield* now)
    const look = Effect.gen(function* () {
      const { chunk, end = start } = yield* reader.messages(session, roomId, {
        from: start,
        to: yield* now,
        dir: "f",
        limit: maxLimit
      })
      return { start, end, chunk }
    })
    const deadline = (yield* monotonicMillis) + Math.min(timeout, maxTimeout)
    if (timeout === 0) return yield* look
    return yield* feeds.reading(session.userId, (feed) => {
      const wait: Effect.Effect<EventChunk, MatrixError> = Effect.suspend(() => {
        const { wakes } = feed
        return Effect.flatMap(withAllowance(look), (found) =>
          found.chunk.length > 0
            ? Effect.succeed(found)
            : Effect.flatMap(feeds.changed(session, feed, wakes, deadline), (woken) =>
                woken ? wait : Effect.succeed(found)
              )
        )
      })
      return Effect.scoped(
        Effect.andThen(
          watch(roomId, () => feed.wake()),
          wait
        )
      )
    })
  })

  const event = Effect.fn("DeprecatedSync.event")(function* (session: Session, eventId: EventId) {
    const [stored] = yield* eventStore.byIds([eventId])
    if (stored === undefined) return yield* new NotFound({ error: `There is no event ${eventId} that you may see` })
    return yield* reader.event(session, stored.event.room_id, eventId)
  })

  /** All rooms, or one of them, by `/sync`. */
  const initialAnswer = (
    session: Session,
    limit: number | undefined,
    room: { readonly include_leave: boolean; readonly rooms?: ReadonlyArray<RoomId> }
  ) => {
    const timeline = { limit: Math.min(limit ?? defaultLimit, maxLimit) }
    // Push rules have endpoints of their own. They are account data since there is /sync.
    const filter = JSON.stringify({ account_data: { not_types: ["m.push_rules"] }, room: { ...room, timeline } })
    return sync.sync(session, { filter, useStateAfter: true, timeout: 0 })
  }

  const initialSync = Effect.fn("DeprecatedSync.initialSync")(function* (
    session: Session,
    options: { readonly limit?: number | undefined; readonly archived: boolean }
  ): Effect.fn.Return<InitialSync, MatrixError> {
    const answer = yield* initialAnswer(session, options.limit, { include_leave: options.archived })
    const { invite, join, leave } = answer.rooms
    const roomIds = [join, invite, leave].flatMap((rooms) => Object.keys(rooms) as Array<RoomId>)
    const listed = yield* publicRooms.listedOf(roomIds)
    const toRooms = (rooms: SyncAnswer["rooms"]["join"], membership: string) =>
      Object.entries(rooms).map(([roomId, room]) =>
        toInitialRoom(roomId, membership, listed.has(roomId as RoomId), room, answer.next_batch)
      )
    const invited = Object.entries(invite).map(([roomId, { invite_state }]): InitialRoom => {
      const state = strippedOf(invite_state.events)
      const own = state.find((event) => event.type === "m.room.member" && event.state_key === session.userId)
      return {
        room_id: roomId as RoomId,
        membership: "invite",
        visibility: listed.has(roomId as RoomId) ? "public" : "private",
        ...(own === undefined ? {} : { invite: { ...own, room_id: roomId }, inviter: own.sender }),
        state
      }
    })
    return {
      end: answer.next_batch,
      presence: answer.presence.events.map(presenceEvent),
      account_data: answer.account_data.events,
      receipts: Object.entries(join).flatMap(([roomId, room]) => receiptsOf(roomId, room)),
      rooms: [...toRooms(join, "join"), ...invited, ...toRooms(leave, "leave")]
    }
  })

  /** A room that the user is not in, as it may be seen. Errors: M_FORBIDDEN. */
  const preview = Effect.fnUntraced(function* (session: Session, roomId: RoomId, limit: number | undefined) {
    const end = yield* now
    const [state, page] = yield* Effect.all([
      reader.state(session, roomId),
      reader.messages(session, roomId, { dir: "b", from: end, limit: Math.min(limit ?? defaultLimit, maxLimit) })
    ])
    const own = state.find(({ state_key, type }) => type === "m.room.member" && state_key === session.userId)
    const listed = yield* publicRooms.listedOf([roomId])
    return {
      room_id: roomId,
      ...(own === undefined ? {} : { membership: String(own.content.membership) }),
      visibility: listed.has(roomId) ? ("public" as const) : ("private" as const),
      messages: { start: page.end ?? page.start, end, chunk: page.chunk.toReversed() },
      state,
      account_data: []
    }
  })

  const roomInitialSync = Effect.fn("DeprecatedSync.roomInitialSync")(function* (
    session: Session,
    roomId: RoomId,
    limit?: number
  ): Effect.fn.Return<RoomInitialSync, MatrixError> {
    const { next_batch, presence, rooms } = yield* initialAnswer(session, limit, {
      rooms: [roomId],
      include_leave: false
    })
    const joined = rooms.join[roomId]
    if (joined === undefined) return { ...(yield* preview(session, roomId, limit)), presence: [], receipts: [] }
    const listed = yield* publicRooms.listedOf([roomId])
    const state = joined.state_after?.events ?? []
    const isMember = new Set(state.flatMap(({ state_key, type }) => (type === "m.room.member" ? [state_key] : [])))
    return {
      ...toInitialRoom(roomId, "join", listed.has(roomId), joined, next_batch),
      presence: presence.events.filter(({ sender }) => isMember.has(sender)).map(presenceEvent),
      receipts: receiptsOf(roomId, joined)
    }
  })

  return DeprecatedSync.of({ events, roomEvents, event, initialSync, roomInitialSync })
})

/** The answer of `initialSync` of a room. */
export type RoomInitialSync = InitialRoom & Pick<InitialSync, "presence" | "receipts">

/** `/events` and `/initialSync` of today's client API. */
export class DeprecatedSync extends Context.Service<
  DeprecatedSync,
  {
    /** The user's updates after a token, or from now on without one. Errors: M_INVALID_PARAM. */
    readonly events: (session: Session, request: EventsRequest) => Effect.Effect<EventChunk, MatrixError>
    /** The same of one room, which the user need not be in. Errors: M_FORBIDDEN, M_INVALID_PARAM. */
    readonly roomEvents: (
      session: Session,
      roomId: RoomId,
      request: EventsRequest
    ) => Effect.Effect<EventChunk, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly event: (session: Session, eventId: EventId) => Effect.Effect<ClientServerEvent, MatrixError>
    /** All rooms, with `limit` events each (default 10); `archived`: also those that the user has left. */
    readonly initialSync: (
      session: Session,
      options: { readonly limit?: number | undefined; readonly archived: boolean }
    ) => Effect.Effect<InitialSync, MatrixError>
    /** Errors: M_FORBIDDEN. */
    readonly roomInitialSync: (
      session: Session,
      roomId: RoomId,
      limit?: number
    ) => Effect.Effect<RoomInitialSync, MatrixError>
  }
>()("greenroom/actors/DeprecatedSync") {
  static readonly layer = Layer.effect(DeprecatedSync, make)
}
