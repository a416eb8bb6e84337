/**
 * Receipts and read markers: how far a user has read in a room, in public, in private, and by thread.
 *
 * Source: "Receipts" and "Fully read markers" of the client-server specification.
 */
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { Forbidden, InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { EventStore } from "@greenroom/store/EventStore"
import type { ReceiptType } from "@greenroom/store/ReceiptChange"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { comparePositions } from "@greenroom/store/StreamToken"
import { Clock, Context, Effect, Layer, Option } from "effect"
import type { Session } from "../runtime/Session.ts"
import { isOfThread } from "./ReceiptThreads.ts"

/** How far the user has read, as a client says it. */
export interface ReadMarkers {
  readonly fullyRead?: EventId | undefined
  readonly read?: EventId | undefined
  readonly privateRead?: EventId | undefined
}

const fullyReadType = "m.fully_read"

const make = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const events = yield* EventStore
  const store = yield* ReceiptStore
  const accountData = yield* AccountDataStore

  const joinedRoom = Effect.fnUntraced(function* ({ userId }: Session, roomId: RoomId) {
    const membership = Option.getOrUndefined(yield* rooms.membership(userId, roomId))
    if (membership?.membership !== "join") return yield* new Forbidden({ error: `${userId} is not in ${roomId}` })
    return membership.roomNid
  })

  const eventIn = Effect.fnUntraced(function* (roomId: RoomId, eventId: EventId) {
    const [found] = yield* events.byIds([eventId])
    if (found === undefined || found.status > 1 || found.event.room_id !== roomId) {
      return yield* new NotFound({ error: `There is no event ${eventId} in this room` })
    }
    return found
  })

  const set = Effect.fn("Receipts.set")(function* (
    session: Session,
    roomId: RoomId,
    type: ReceiptType,
    eventId: EventId,
    threadId?: string
  ) {
    const roomNid = yield* joinedRoom(session, roomId)
    if (threadId === "") return yield* new InvalidParam({ error: "thread_id: must not be empty" })
    const found = yield* eventIn(roomId, eventId)
    if (threadId !== undefined && !(yield* isOfThread(events, found.event, threadId))) {
      return yield* new InvalidParam({ error: `thread_id: ${eventId} is not of the thread ${threadId}` })
    }
    const { position } = found
    const ts = yield* Clock.currentTimeMillis
    yield* store.set({ roomNid, userId: session.userId, type, threadId, eventId, event: position, ts })
  })

  /** The marker moves forwards only. This server may have removed the event at which it was before. */
  const setFullyRead = Effect.fn("Receipts.setFullyRead")(function* (
    session: Session,
    roomId: RoomId,
    eventId: EventId
  ) {
    yield* joinedRoom(session, roomId)
    const marked = yield* eventIn(roomId, eventId)
    const before = yield* accountData.get(session.userId, roomId, fullyReadType)
    const known = Option.isSome(before) ? before.value.event_id : undefined
    const [former] = typeof known === "string" ? yield* events.byIds([known as EventId]) : []
    if (former !== undefined && comparePositions(former.position, marked.position) >= 0) return
    yield* accountData.set(session.userId, roomId, fullyReadType, { event_id: eventId }, Number.MAX_SAFE_INTEGER)
  })

  const setMarkers = Effect.fn("Receipts.setMarkers")(function* (
    session: Session,
    roomId: RoomId,
    { fullyRead, privateRead, read }: ReadMarkers
  ) {
    yield* joinedRoom(session, roomId)
    // A refused request changes nothing.
    for (const eventId of new Set([read, privateRead])) if (eventId !== undefined) yield* eventIn(roomId, eventId)
    if (fullyRead !== undefined) yield* setFullyRead(session, roomId, fullyRead)
    if (read !== undefined) yield* set(session, roomId, "m.read", read)
    if (privateRead !== undefined) yield* set(session, roomId, "m.read.private", privateRead)
  })

  return Receipts.of({ set, setFullyRead, setMarkers })
})

/** Read receipts and read markers. */
export class Receipts extends Context.Service<
  Receipts,
  {
    /**
     * Joined members. A receipt that lies before the present one changes nothing. Errors: M_FORBIDDEN, M_NOT_FOUND,
     * M_INVALID_PARAM.
     */
    readonly set: (
      session: Session,
      roomId: RoomId,
      type: ReceiptType,
      eventId: EventId,
      threadId?: string
    ) => Effect.Effect<void, MatrixError>
    /** Moves the `m.fully_read` marker forwards. Joined members. Errors: M_FORBIDDEN, M_NOT_FOUND. */
    readonly setFullyRead: (session: Session, roomId: RoomId, eventId: EventId) => Effect.Effect<void, MatrixError>
    /** Sets several markers at once: all, or none if one is refused. Callers and errors as for `set`. */
    readonly setMarkers: (session: Session, roomId: RoomId, markers: ReadMarkers) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Receipts") {
  static readonly layer = Layer.effect(Receipts, make)
}
