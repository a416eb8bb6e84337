/**
 * The federation API of the draft as a service: one method for each endpoint.
 *
 * The gateway's federation listener calls it. By then the request is authenticated: `origin` is the server that signed
 * it, `transaction` is addressed to us and within its limits, IDs are well-formed. Everything inside PDUs and EDUs is
 * as it came, unread. What the origin may see is for this service to decide: a room that the origin has no part in
 * does not exist for it (M_NOT_FOUND).
 *
 * Source: "Federation" of the draft.
 */

import type { PresencePush } from "@greenroom/protocol/federation/Edu"
import type {
  DirectoryAnswer,
  InviteAnswer,
  MakeMembershipAnswer,
  SendJoinAnswer,
  StateAnswer
} from "@greenroom/protocol/federation/FederationAnswers"
import type { Transaction, TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import type { EventId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect } from "effect"

/** The first half of a handshake: the membership of a user of the origin, for the origin to complete and sign. */
export type MakeMembership = (
  origin: ServerName,
  roomId: RoomId,
  userId: UserId,
  /** The room versions that the origin knows; all, if absent. */
  versions?: ReadonlyArray<string>
) => Effect.Effect<MakeMembershipAnswer, MatrixError>

/** The second half: the signed PDU, whose ID and room are those of the path once it is checked against them. */
export type SendMembership<A> = (
  origin: ServerName,
  roomId: RoomId,
  eventId: EventId,
  pdu: JsonObject
) => Effect.Effect<A, MatrixError>

/** The draft's federation API as a service. Callers: listeners, after authentication. */
export class Federation extends Context.Service<
  Federation,
  {
    /**
     * Takes the PDUs and EDUs of a transaction (`PUT /send`). A repeat of the origin's `transaction_id` gets the stored
     * answer. A bad PDU has its error in the answer; the effect fails only if the whole must be sent again.
     */
    readonly receiveTransaction: (
      origin: ServerName,
      transaction: Transaction
    ) => Effect.Effect<TransactionAnswer, MatrixError>
    /** One PDU that the origin may see. Errors: M_NOT_FOUND. */
    readonly getPdu: (origin: ServerName, eventId: EventId) => Effect.Effect<JsonObject, MatrixError>
    /** The state before `at`, or now, with the PDUs that authorise it. Errors: M_NOT_FOUND. */
    readonly getState: (origin: ServerName, roomId: RoomId, at?: EventId) => Effect.Effect<StateAnswer, MatrixError>
    /**
     * The PDUs that precede `from`, newest first, at most `limit` (1 to 100). Without `from`: the newest ones.
     * Errors: M_NOT_FOUND.
     */
    readonly backfill: (
      origin: ServerName,
      roomId: RoomId,
      from: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<JsonObject>, MatrixError>
    /** The transactions to the origin after the newest of those named, oldest first, a bounded number. */
    readonly pull: (
      origin: ServerName,
      after: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyArray<JsonObject>, MatrixError>
    /** The profile of one of our users, or one field of it, as the origin's users may see it. Errors: M_NOT_FOUND. */
    readonly queryProfile: (
      origin: ServerName,
      userId: UserId,
      field?: string
    ) => Effect.Effect<JsonObject, MatrixError>
    /** The room of an alias of this server, with servers in it. Errors: M_NOT_FOUND. */
    readonly queryDirectory: (origin: ServerName, alias: RoomAlias) => Effect.Effect<DirectoryAnswer, MatrixError>
    /** The presence of one of our users, if the origin may see it. Errors: M_NOT_FOUND, M_FORBIDDEN. */
    readonly queryPresence: (origin: ServerName, userId: UserId) => Effect.Effect<PresencePush, MatrixError>

    /** Errors: M_NOT_FOUND (also for a private room that the user is not invited to), M_FORBIDDEN. */
    readonly makeJoin: MakeMembership
    /** Takes the join, and answers with the state before it. Errors: as `makeJoin`, M_BAD_JSON. */
    readonly sendJoin: SendMembership<SendJoinAnswer>
    /** Leaving, and rejecting an invite. Errors: M_NOT_FOUND, M_FORBIDDEN. */
    readonly makeLeave: MakeMembership
    /** Takes the leave. Errors: as `makeLeave`, M_BAD_JSON. */
    readonly sendLeave: SendMembership<void>
    /** Errors: M_NOT_FOUND, M_FORBIDDEN. */
    readonly makeKnock: MakeMembership
    /** Takes the knock. Errors: as `makeKnock`, M_BAD_JSON. */
    readonly sendKnock: SendMembership<void>
    /** An invite of one of our users by a user of the origin: countersigned. Errors: M_NOT_FOUND, M_FORBIDDEN. */
    readonly invite: SendMembership<InviteAnswer>
    /** Called for every authenticated request: the origin is up, so waiting to try it again can end. Must be cheap. */
    readonly heardFrom: (origin: ServerName) => Effect.Effect<void>
  }
>()("greenroom/actors/Federation") {}
