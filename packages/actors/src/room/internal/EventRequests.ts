/**
 * Events that users send: proposals to the Room actor, and redactions.
 *
 * Source: "Sending events to a room", "Redactions" of the client-server specification.
 */
import { checkEvent } from "@greenroom/protocol/EventCheck"
import { type EventId, isEventId, type RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
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

const redactionType = "m.room.redaction"

/** The `origin_server_ts` that an application service gives to its event. */
const timeOf = ({ at }: Session) => (at === undefined ? {} : { at })

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
    const guest = session.guest ? { guest: true } : {}
    return ask(room(roomId).Propose({ sender: session.userId, ...event, ...timeOf(session), ...guest, ...transaction }))
  }

  /** The room version decides where the event stands that is redacted: `redacts` in the content names no other. */
  const redact = (
    session: Session,
    roomId: RoomId,
    eventId: EventId,
    { reason, redacts, ...content }: JsonObject = {},
    txnId?: string
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError> => {
    if (redacts !== undefined && redacts !== eventId) {
      return Effect.fail(new InvalidParam({ error: "redacts: expected the event that is redacted" }))
    }
    const reasons = reason === undefined || reason === null ? {} : { reason: reason as string }
    const problem = checkEvent(redactionType, undefined, { ...content, ...reasons })
    if (problem !== undefined) return Effect.fail(problem)
    return ask(
      room(roomId).Redact({
        sender: session.userId,
        target: eventId,
        content,
        ...reasons,
        ...timeOf(session),
        ...transactionOf(session, "redact", eventId, txnId)
      })
    )
  }

  /** A redaction that is sent as an event: its content names the event. */
  const sendRedaction = (
    session: Session,
    roomId: RoomId,
    content: JsonObject,
    txnId: string | undefined
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError> =>
    isEventId(content.redacts)
      ? redact(session, roomId, content.redacts, content, txnId)
      : Effect.fail(new BadJson({ error: "redacts: expected the ID of an event" }))

  const send = (session: Session, roomId: RoomId, type: string, content: JsonObject, txnId?: string) =>
    type === redactionType
      ? sendRedaction(session, roomId, content, txnId)
      : propose(session, roomId, { type, content }, transactionOf(session, "send", type, txnId))

  return { transactionOf, propose, redact, send }
})

export type EventRequests = Effect.Success<typeof makeEventRequests>
