/**
 * The messages of the `Room` actor.
 */
import { randomUUID } from "node:crypto"
import { Event } from "@greenroom/protocol/Event"
import { EventId, HistoricalUserId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { JsonObject } from "@greenroom/protocol/Json"
import { MatrixError } from "@greenroom/protocol/MatrixError"
import { Schema } from "effect"
import { ClusterSchema, Entity } from "effect/cluster"
import { Rpc } from "effect/rpc"
import type { Nodes } from "../runtime/Nodes.ts"
import { AnswerWithin, MayRepeat } from "../runtime/Repetition.ts"
import { WithinAllowance } from "../runtime/RequestAllowance.ts"
import { type Session, Transaction } from "../runtime/Session.ts"
import type { RemoteState } from "./RemoteRooms.ts"

/** The transaction of the request and its kind, such as `send/m.room.message`: one scope of idempotency. */
const RoomTransaction = Schema.Struct({
  ...Transaction.fields,
  kind: Schema.String,
  /** The ID was made by this server: the client knows nothing of it. */
  ofServer: Schema.optionalKey(Schema.Boolean)
})
export type RoomTransaction = typeof RoomTransaction.Type

/**
 * The key by which a repeat of the request is recognised. If the client gives no transaction ID, a node of a cluster makes
 * one, so that the message to the room can be repeated when the room's node is lost before it has answered.
 */
export const requestTransaction = (
  { isCluster }: Nodes["Service"],
  { tokenId }: Session,
  kind: string,
  txnId: string | undefined
): { readonly transaction?: RoomTransaction } => {
  if (txnId !== undefined) return { transaction: { tokenId, txnId, kind } }
  return isCluster ? { transaction: { tokenId, txnId: randomUUID(), kind: `request/${kind}`, ofServer: true } } : {}
}

/** A change with the client's transaction ID is found again when it is repeated. */
const hasTransaction = ({ transaction }: { readonly transaction?: RoomTransaction }): boolean =>
  transaction !== undefined

/** How long the node that runs the room may take where it asks other servers. */
const handshakeTimeout = "5 minutes"

const CreatedRoom = Schema.Struct({ room_id: RoomId, room_alias: Schema.optionalKey(RoomAlias) })
export type CreatedRoom = typeof CreatedRoom.Type

/**
 * Begins the room with its m.room.create and the state that follows it, all in the name of the creator. Answers with null
 * where the room exists already; a repeated transaction is answered with the room that the first made.
 */
export const Create = Rpc.make("Create", {
  payload: {
    create: Event,
    version: Schema.String,
    /** Whether the room is in the list of public rooms. */
    listed: Schema.Boolean,
    state: Schema.Array(Schema.Struct({ type: Schema.String, state_key: Schema.String, content: JsonObject })),
    alias: Schema.optionalKey(RoomAlias),
    transaction: Schema.optionalKey(RoomTransaction)
  },
  success: Schema.NullOr(CreatedRoom),
  error: MatrixError
})

/** Appends an event if the rules allow it. A state event that changes nothing is answered with the one in force. */
export const Propose = Rpc.make("Propose", {
  payload: {
    sender: UserId,
    type: Schema.String,
    content: JsonObject,
    stateKey: Schema.optionalKey(Schema.String),
    /** For a membership: whether the user must be banned, or must not be. */
    banned: Schema.optionalKey(Schema.Boolean),
    /** The sender is a guest, and joins only rooms that admit guests. */
    guest: Schema.optionalKey(Schema.Boolean),
    /** The `origin_server_ts`, where an application service gives it. */
    at: Schema.optionalKey(Schema.Number),
    transaction: Schema.optionalKey(RoomTransaction)
  },
  success: Schema.Struct({ event_id: EventId }),
  error: MatrixError
}).annotate(MayRepeat, ({ stateKey, transaction }) => stateKey !== undefined || transaction !== undefined)

/** Strips an event to what the protocol needs. */
export const Redact = Rpc.make("Redact", {
  payload: {
    sender: UserId,
    target: EventId,
    reason: Schema.optionalKey(Schema.String),
    /** The other keys of its content. */
    content: Schema.optionalKey(JsonObject),
    /** The `origin_server_ts`, where an application service gives it. */
    at: Schema.optionalKey(Schema.Number),
    transaction: Schema.optionalKey(RoomTransaction)
  },
  success: Schema.Struct({ event_id: EventId }),
  error: MatrixError
}).annotate(MayRepeat, hasTransaction)

/** The user types, or stopped. `timeout` in ms. */
export const SetTyping = Rpc.make("SetTyping", {
  payload: { userId: UserId, typing: Schema.Boolean, timeout: Schema.Number },
  error: MatrixError
})

/** Gives the user's membership its new display name and avatar, if the user is joined. */
export const RefreshMember = Rpc.make("RefreshMember", {
  payload: { userId: UserId, profile: JsonObject },
  error: MatrixError
})

// Messages of other servers; their events have passed the checks of form, signature and hash.

const Handshake = Schema.Literals(["join", "leave", "knock"])
const Events = Schema.Array(Event)
const StateOfRoom: Schema.Codec<RemoteState> = Schema.Struct({ state: Events, authChain: Events })

/** A membership as it was taken, with the state before it. */
const TakenMembership = Schema.Struct({ event: Event, state: Events, authChain: Events })
export type TakenMembership = typeof TakenMembership.Type

/**
 * After a failure events are placed one by one. One at which it fails again is not tried any more: if the failure is of
 * that event ("faults"), or may be ("failures"), as it is none of this server's own (`mayPass`).
 */
const Caution = Schema.Literals(["faults", "failures"])
export type Caution = typeof Caution.Type

/**
 * The outcome of a received event. `error`: why it was not taken. `refusal`: the rule by which an event of today's versions
 * was rejected or soft-failed, which is part of the graph all the same, or why it could not be placed.
 */
const Outcome = Schema.Struct({
  event_id: EventId,
  error: Schema.optionalKey(Schema.String),
  refusal: Schema.optionalKey(Schema.String)
})
export type Outcome = typeof Outcome.Type

/** Places events of other servers. Answers with the outcome of each, when the accepted ones are durable. */
export const Receive = Rpc.make("Receive", {
  payload: {
    origin: ServerName,
    events: Events,
    caution: Schema.optionalKey(Caution),
    /** They have waited for long: removals of our users no longer wait for the events before them. */
    isLate: Schema.optionalKey(Schema.Boolean)
  },
  success: Schema.Array(Outcome),
  error: MatrixError
})

/** The template of a membership for a user of a server that knows these room versions (all, if absent). */
export const MakeMembership = Rpc.make("MakeMembership", {
  payload: {
    handshake: Handshake,
    userId: HistoricalUserId,
    versions: Schema.optionalKey(Schema.Array(Schema.String))
  },
  success: Schema.Struct({ room_version: Schema.String, event: JsonObject }),
  error: MatrixError
})

/**
 * Takes the membership that another server has completed. A join is answered with the state before it, a knock with the
 * stripped state for the knocking user.
 */
export const SendMembership = Rpc.make("SendMembership", {
  payload: { origin: ServerName, handshake: Handshake, event: Event },
  success: TakenMembership,
  error: MatrixError
}).annotate(WithinAllowance, true)

/**
 * Makes the membership that a user of another server asks for by an m.room.invite_join to this server. Answers with the
 * event by which the user is joined, also if they were before. Errors: M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON.
 */
export const InviteJoin = Rpc.make("InviteJoin", {
  payload: { event: Event },
  success: Schema.Struct({ event_id: EventId }),
  error: MatrixError
})

/** The state before an event, or now, for a server that takes part in the room. */
export const GetState = Rpc.make("GetState", {
  payload: { origin: ServerName, at: Schema.optionalKey(EventId) },
  success: StateOfRoom,
  error: MatrixError
}).annotate(WithinAllowance, true)

/** Whether a server takes part in the room. Errors: M_NOT_FOUND; M_FORBIDDEN if the m.room.server_acl keeps it out. */
export const RequireServer = Rpc.make("RequireServer", { payload: { origin: ServerName }, error: MatrixError })

/** An invite of one of our users by another server: answered with our signature beside its own. */
export const ReceiveInvite = Rpc.make("ReceiveInvite", {
  payload: {
    origin: ServerName,
    event: Event,
    version: Schema.String,
    /** The room state for the invited user: stripped state. */
    shown: Schema.optionalKey(Schema.Array(JsonObject))
  },
  success: Event,
  error: MatrixError
})

/** Another server takes back the invitation of one of our users, or refuses their knock. */
export const ReceiveRetraction = Rpc.make("ReceiveRetraction", {
  payload: { event: Event },
  error: MatrixError
})

/** The servers in the room; none if ours is not in it. */
export const Servers = Rpc.make("Servers", { success: Schema.Array(ServerName), error: MatrixError })

// Messages of our users that need other servers

/** Joins through one of the servers, where this one does not take part in the room. */
export const JoinRemotely = Rpc.make("JoinRemotely", {
  payload: { userId: UserId, content: JsonObject, servers: Schema.Array(ServerName) },
  error: MatrixError
}).annotate(AnswerWithin, handshakeTimeout)

/** Rejects an invitation, or takes back a knock, where this server does not take part in the room. */
export const LeaveRemotely = Rpc.make("LeaveRemotely", {
  payload: {
    userId: UserId,
    servers: Schema.Array(ServerName),
    reason: Schema.optionalKey(Schema.String),
    transaction: Schema.optionalKey(RoomTransaction)
  },
  error: MatrixError
}).annotate(AnswerWithin, handshakeTimeout)

/** Knocks through one of the servers, where this one does not take part in the room. */
export const KnockRemotely = Rpc.make("KnockRemotely", {
  payload: { userId: UserId, content: JsonObject, servers: Schema.Array(ServerName) },
  success: Schema.Struct({ event_id: EventId }),
  error: MatrixError
}).annotate(AnswerWithin, handshakeTimeout)

/** Invites a user of another server, which countersigns. */
export const InviteRemotely = Rpc.make("InviteRemotely", {
  payload: {
    sender: UserId,
    invited: UserId,
    content: JsonObject,
    transaction: Schema.optionalKey(RoomTransaction)
  },
  success: Schema.Struct({ event_id: EventId }),
  error: MatrixError
})
  .annotate(MayRepeat, hasTransaction)
  .annotate(AnswerWithin, handshakeTimeout)

/** Fetches history before the gap in front of `at`, or before all that there is; true if there is more of it now. */
export const Backfill = Rpc.make("Backfill", {
  payload: { limit: Schema.Number, at: Schema.optionalKey(EventId) },
  success: Schema.Boolean,
  error: MatrixError
}).annotate(AnswerWithin, handshakeTimeout)

/** Drops the state in memory: the room was changed in the database. */
export const Reload = Rpc.make("Reload", { error: MatrixError })

/** The messages of the `Room` actor. */
export const Room = Entity.make("Room", [
  Create,
  Propose,
  Redact,
  SetTyping,
  RefreshMember,
  Receive,
  MakeMembership,
  SendMembership,
  InviteJoin,
  GetState,
  RequireServer,
  ReceiveInvite,
  ReceiveRetraction,
  Servers,
  JoinRemotely,
  LeaveRemotely,
  KnockRemotely,
  InviteRemotely,
  Backfill,
  Reload
]).annotateRpcs(ClusterSchema.Uninterruptible, true)
