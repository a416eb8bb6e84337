/**
 * Events that users send: proposals to the Room actor, and redactions.
 *
 * Source: "Sending events to a room", "Redactions" of the client-server specification.
 */
import { checkEvent } from "@greenroom/protocol/EventCheck"
import { type EventId, isEventId, type RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { ask } from "../../runtime/Ask.ts"
import { Nodes } from "../../runtime/Nodes.ts"
import type { Session } from "../../runtime/Session.ts"
import { Room, requestTransaction } from "../RoomProtocol.ts"

/** What a user proposes to a room. */
export interface ProposedEvent {
  readonly type: string
  readonly content: JsonObject
  readonly stateKey?: string
  /** For a membership: whether the user must be banned, or must not be. */
  readonly banned?: boolean
}

/** The part of a message that recognises a repeat of its request. */
export type RequestTransaction = ReturnType<typeof requestTransaction>

export const makeEventRequests = Effect.gen(function* () {
  const nodes = yield* Nodes
  const room = yield* Room.client

  /**
   * The transaction of a request with an operation and its target. A slash inside the target differs from the one between the two,
   * and from the one before a transaction ID.
   */
  const transactionOf = (session: Session, action: string, target: string | undefined, txnId: string | undefined) => {
    const kind = target === undefined ? action : `${action}/${target.replaceAll("%", "%25").replaceAll("/", "%2F")}`
    return requestTransaction(nodes, session, kind, txnId)
  }

  const propose = (
    session: Session,
    roomId: RoomId,
    event: ProposedEvent,
    transaction: RequestTransaction
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError> => {
    const problem = checkEvent(event.type, event.stateKey, event.content)
    if (problem !== undefined) return Effect.fail(problem)
    const at = session.at === undefined ? {} : { at: session.at }
    const guest = session.guest ? { guest: true } : {}
    return ask(room(roomId).Propose({ sender: session.userId, ...event, ...at, ...guest, ...transaction }))
  }

  const redact = (session: Session, roomId: RoomId, eventId: EventId, reason?: string, txnId?: string) =>
    ask(
      room(roomId).Redact({
        sender: session.userId,
        target: eventId,
        ...(reason === undefined ? {} : { reason }),
        ...transactionOf(session, "redact", eventId, txnId)
      })
    )

  /** A redaction that is sent as an event: its content names the event and the reason. */
  const sendRedaction = (
    session: Session,
    roomId: RoomId,
    { reason, redacts }: JsonObject,
    txnId: string | undefined
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError> => {
    if (!isEventId(redacts)) return Effect.fail(new BadJson({ error: "redacts: expected the ID of an event" }))
    return reason === undefined || typeof reason === "string"
      ? redact(session, roomId, redacts, reason, txnId)
      : Effect.fail(new BadJson({ error: "reason: expected string" }))
  }

  const send = (session: Session, roomId: RoomId, type: string, content: JsonObject, txnId?: string) =>
    type === "m.room.redaction"
      ? sendRedaction(session, roomId, content, txnId)
      : propose(session, roomId, { type, content }, transactionOf(session, "send", type, txnId))

  return { transactionOf, propose, redact, send }
})

export type EventRequests = Effect.Success<typeof makeEventRequests>
