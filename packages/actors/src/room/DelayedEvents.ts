/**
 * Events that are sent after a delay, unless their author restarts the delay or cancels them. A client that restarts the
 * delay while it is in a call thus leaves the call when it is gone.
 *
 * They are durable. One node of the cluster sends due events, each under a transaction ID of its own, so that a repeat after
 * a failure, or by a node that was stopped meanwhile, sends nothing twice. An event is marked before it is sent: the database
 * decides whether it is sent or cancelled.
 *
 * Source: MSC4140.
 */
import { randomBytes } from "node:crypto"
import { checkEvent } from "@greenroom/protocol/EventCheck"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadRequest,
  Forbidden,
  LimitExceeded,
  type MatrixError,
  NotFound,
  toErrorBody
} from "@greenroom/protocol/MatrixError"
import { type DelayedEvent, DelayedEventStore } from "@greenroom/store/DelayedEventStore"
import { Clock, Context, Effect, Layer, Option, Result } from "effect"
import { outcomeOf } from "../runtime/ItemFailure.ts"
import { delayedTokenId, type Session } from "../runtime/Session.ts"
import { keepRunningOnce, periodicallyOnce } from "../runtime/Singletons.ts"
import { signalsOfWork } from "../runtime/WorkSignals.ts"
import { Rooms } from "./Rooms.ts"

export type { DelayedEvent } from "@greenroom/store/DelayedEventStore"

/** The longest delay, in ms. */
export const maxDelay = 24 * 60 * 60_000
/** The most delayed events that a user has scheduled. */
export const maxScheduled = 100

/** The most events that are sent before the database is asked for further due ones. */
const batchSize = 100

/** The shortest interval between two queries for due events, in ms: another node may be sending the due one. */
const shortestWait = 100

/** The time for which the outcome of an event is kept for its author, in ms, and the most outcomes of one author. */
const keptFor = 7 * 24 * 60 * 60_000
const maxFinalised = 500

/** What a client does with a delayed event. */
export type DelayAction = "send" | "cancel" | "restart"

/** An event to be sent after a delay. */
export interface DelayedRequest {
  readonly roomId: RoomId
  readonly type: string
  readonly stateKey: string | undefined
  readonly content: JsonObject
  /** In ms. */
  readonly delay: number
  /** Names the request. A repeat makes no second event. */
  readonly txnId: string | undefined
}

/** `conflict`: the event was already sent or cancelled. */
export type ActionOutcome = "done" | "conflict"

/** The request, for its token. */
const keyOf = ({
  roomId,
  stateKey,
  txnId,
  type
}: Pick<DelayedRequest, "roomId" | "type"> & { readonly stateKey?: string | undefined; readonly txnId: string }) =>
  JSON.stringify([roomId, type, stateKey ?? null, txnId])

const unknown = new NotFound({ error: "delay_id: there is no such delayed event" })

const make = Effect.gen(function* () {
  const store = yield* DelayedEventStore
  const rooms = yield* Rooms

  const schedule = Effect.fn("DelayedEvents.schedule")(function* (session: Session, request: DelayedRequest) {
    const { content, delay, roomId, stateKey, txnId, type } = request
    if (delay > maxDelay) {
      return yield* new Forbidden({ error: `The delay may be ${maxDelay} milliseconds at most` })
    }
    const problem = checkEvent(type, stateKey, content)
    if (problem !== undefined) return yield* problem
    const delayId = randomBytes(24).toString("base64url")
    const { tokenId, userId } = session
    const txnKey = keyOf({ roomId, type, stateKey, txnId: txnId ?? delayId })
    const event = { delayId, userId, tokenId, txnKey, roomId, type, stateKey, content, delay }
    const scheduled = yield* store.schedule(event, { scheduled: maxScheduled, finalised: maxFinalised })
    if (Option.isNone(scheduled)) {
      const [first] = yield* store.scheduledBy(userId)
      const now = yield* Clock.currentTimeMillis
      const retry_after_ms = first === undefined ? 1_000 : Math.max(1_000, first.scheduledAt + first.delay - now)
      return yield* new LimitExceeded({ error: `${maxScheduled} events wait to be sent already`, retry_after_ms })
    }
    return scheduled.value
  })

  const send = ({ content, delayId, roomId, stateKey, type, userId }: DelayedEvent) => {
    const session: Session = { userId, tokenId: delayedTokenId, deviceId: "" }
    return stateKey === undefined
      ? rooms.send(session, roomId, type, content, delayId)
      : rooms.setState(session, roomId, type, stateKey, content, delayId)
  }

  /** Sends an event that is due. An event that the room refuses is not tried again; one of a room that is away is. */
  const sendDue = (event: DelayedEvent) =>
    outcomeOf(`The delayed event ${event.delayId}`, send(event)).pipe(
      Effect.matchEffect({
        onSuccess: Result.match({
          onSuccess: ({ event_id }) => store.finalise(event.delayId, { eventId: event_id }),
          onFailure: (error) => store.finalise(event.delayId, { error: toErrorBody(error) as unknown as JsonObject })
        }),
        onFailure: ({ cause }) =>
          Effect.andThen(
            Effect.logDebug(`The delayed event ${event.delayId} cannot be sent now`, cause),
            store.retryLater(event)
          )
      })
    )

  const scheduledMore = yield* signalsOfWork("delayed events")
  const sendAllDue = Effect.gen(function* () {
    // If the clock is set back from here on, the wait is not longer for it.
    const now = yield* Clock.currentTimeMillis
    const due = yield* store.takeDue(batchSize)
    yield* Effect.forEach(due, sendDue, { concurrency: 8, discard: true })
    if (due.length === batchSize) return
    const next = yield* store.nextAt
    if (next === undefined) return yield* scheduledMore
    yield* Effect.timeoutOption(scheduledMore, Math.max(shortestWait, next - now))
  })
  yield* keepRunningOnce("Sending delayed events", sendAllDue)
  const forget = Effect.flatMap(Clock.currentTimeMillis, (now) => store.forget(now - keptFor))
  yield* periodicallyOnce("Forgetting delayed events", "1 hour", forget)

  /** The delay ID of a request. Sessions can name only their own user's events. */
  const found = Effect.fnUntraced(function* (userId: UserId | undefined, delayId: string) {
    const event = Option.getOrUndefined(yield* store.find(delayId))
    return event !== undefined && (userId === undefined || event.userId === userId) ? event : yield* unknown
  })

  const actionOutcome = (event: DelayedEvent, action: DelayAction): ActionOutcome => {
    if (action === "send") return event.eventId === undefined ? "conflict" : "done"
    const isOver = event.finalisedAt !== undefined
    return action === "cancel" && isOver && event.eventId === undefined ? "done" : "conflict"
  }

  const act = Effect.fn("DelayedEvents.act")(function* (
    userId: UserId | undefined,
    delayId: string,
    action: DelayAction
  ): Effect.fn.Return<ActionOutcome, MatrixError> {
    const event = yield* found(userId, delayId)
    if (event.finalisedAt !== undefined) return actionOutcome(event, action)
    const change = { send: store.sendNow, cancel: store.cancel, restart: store.restart }[action]
    if (!(yield* change(delayId))) return actionOutcome(yield* found(userId, delayId), action)
    if (action !== "send") return "done"
    // An event that the room refuses now is tried again when it is due.
    const { event_id } = yield* Effect.tapError(send(event), () => store.postpone(event))
    yield* store.finalise(delayId, { eventId: event_id })
    return "done"
  })

  return DelayedEvents.of({
    schedule,
    scheduledAs: ({ tokenId }, message) =>
      Effect.map(store.scheduledAs(tokenId, keyOf(message)), Option.getOrUndefined),
    act,
    find: (session, delayId) => found(session.userId, delayId),
    list: (session) => store.scheduledBy(session.userId),
    cancelAll: store.cancelAll
  })
})

/** Reads the delay that a request names, in ms. Errors: M_UNKNOWN. */
export const delayOf = (delay: number): Effect.Effect<number, BadRequest> =>
  Number.isSafeInteger(delay) && delay > 0
    ? Effect.succeed(delay)
    : Effect.fail(new BadRequest({ error: "The delay must be a positive number of milliseconds" }))

/** Delayed events (MSC4140): scheduled, restarted, sent or cancelled. */
export class DelayedEvents extends Context.Service<
  DelayedEvents,
  {
    /** Any user. Answers with the delay ID. Errors: M_FORBIDDEN for a delay that is too long, M_LIMIT_EXCEEDED. */
    readonly schedule: (session: Session, request: DelayedRequest) => Effect.Effect<string, MatrixError>
    /** The delay ID of a message that an earlier request of the session scheduled. */
    readonly scheduledAs: (
      session: Session,
      message: { readonly roomId: RoomId; readonly type: string; readonly txnId: string }
    ) => Effect.Effect<string | undefined>
    /**
     * Sends, cancels or restarts an event: callers are its author, and without `userId` everybody who knows the delay ID.
     * Errors: M_NOT_FOUND, and what the room answers to `send`.
     */
    readonly act: (
      userId: UserId | undefined,
      delayId: string,
      action: DelayAction
    ) => Effect.Effect<ActionOutcome, MatrixError>
    /** One event, also when it is finalised. Its author. Errors: M_NOT_FOUND. */
    readonly find: (session: Session, delayId: string) => Effect.Effect<DelayedEvent, MatrixError>
    /** The user's events that wait to be sent. */
    readonly list: (session: Session) => Effect.Effect<ReadonlyArray<DelayedEvent>>
    /** Cancels all events of a user. For the end of their account. */
    readonly cancelAll: (userId: UserId) => Effect.Effect<void>
  }
>()("greenroom/actors/DelayedEvents") {
  static readonly layer = Layer.effect(DelayedEvents, make)
}
