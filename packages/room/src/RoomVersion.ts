/**
 * A room version: an event format, authorisation rules and a state resolution, with what else differs. Actors, store and
 * gateway know rooms only through this interface; `RoomVersions` has the table of versions.
 *
 * All of it is pure and synchronous. Room IDs and event IDs are opaque to everybody else.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { Result } from "effect"
import type { LevelKey } from "./LevelKeys.ts"
import type { SignatureCheck, SigningKey, VerifyKeys } from "./Signing.ts"

/** Looks up the state event of a type and state key; undefined if there is none. */
export type StateLookup = (type: string, stateKey: string) => Event | undefined

/** A state: `stateKeyOf(type, stateKey)` to the ID of the event that sets it. */
export type StateMap = ReadonlyMap<string, EventId>

/** The key of a state map. */
export const stateKeyOf = (type: string, stateKey: string): string => `${type}\0${stateKey}`

/** Type and state key of a key of a state map. */
export const splitStateKey = (key: string): readonly [type: string, stateKey: string] => {
  const nul = key.indexOf("\0")
  return [key.slice(0, nul), key.slice(nul + 1)]
}

/** A lookup in the given state events. Of two with the same type and state key the later counts. */
export const lookupIn = (events: Iterable<Event>): StateLookup => {
  const byKey = new Map<string, Event>()
  for (const event of events)
    if (event.state_key !== undefined) byKey.set(stateKeyOf(event.type, event.state_key), event)
  return (type, stateKey) => byKey.get(stateKeyOf(type, stateKey))
}

/** An event that a user proposes, before it has a place in the event graph. */
export interface EventProposal {
  readonly room_id: RoomId
  readonly type: string
  readonly sender: UserId
  readonly content: JsonObject
  readonly state_key?: string
  readonly redacts?: EventId
  /** The PDU of the m.room.invite_join by which a user of another server asks for the membership. */
  readonly invite_join?: JsonObject
}

/** An event that a new one follows. */
export interface PrevEvent {
  readonly event_id: EventId
  readonly depth: number
  /** Its `EventFormat.referenceHash`, where the version has `namesReferenceHashes`. */
  readonly referenceHash?: string | undefined
}

/** The position of an event in the graph. */
export interface EventPosition {
  readonly prevEvents: ReadonlyArray<PrevEvent>
  /** The state before the event. */
  readonly state: StateLookup
  /** Milliseconds since 1970. */
  readonly now: number
}

/** The reason why the rules do not allow an event. `rule` states the violated rule for people. */
export interface Refusal {
  readonly rule: string
  /** True if the content is wrong, independent of the sender. */
  readonly ofContent?: boolean
}

/** The reasons why a PDU from another server is refused. */
export type PduProblem =
  | { readonly _tag: "Malformed"; readonly reason: string }
  | { readonly _tag: "TooLarge"; readonly bytes: number }
  | { readonly _tag: "BadSignature"; readonly reason: string }

/** The conflicts of states. Unconflicted state is looked up on demand. */
export interface StateConflict {
  /** The events of each key that the states do not all set to the same event, each event once: the conflicted state set. */
  readonly conflicted: ReadonlyMap<string, ReadonlyArray<EventId>>
  /** The events in conflict, and the auth events that take part by the `extent` of the resolution. */
  readonly fullConflictedSet: ReadonlySet<EventId>
  /** The event that all states set a key to, if there is one. */
  readonly unconflicted: (key: string) => EventId | undefined
}

/** The state resolution algorithm of a version. */
export interface StateResolution {
  /**
   * The auth events that take part beside the events in conflict: none; those in the auth chains of some states and not
   * of all; or these and all that lie between events in conflict.
   */
  readonly extent: "conflicted" | "authDifference" | "authDifferenceAndSubgraph"
  /**
   * The keys that were in conflict with the events that they are set to. Keys that it does not name are set to none. The
   * same for every server that has the same events.
   *
   * `event` looks up accepted events: the full conflicted set, the auth events of these, what all states agree on, the
   * m.room.create, and the m.room.power_levels before those power levels: all that are found by following the power levels
   * among auth events. A store reads the first two in a batch and the last by one recursive query over auth edges to
   * m.room.power_levels. (The extent "conflicted" asks for events in conflict and for what all states agree on only.)
   */
  readonly resolve: (conflict: StateConflict, event: (id: EventId) => Event | undefined) => ReadonlyMap<string, EventId>
}

/** An event that creates a room, before the room has an ID. */
export type RoomProposal = Omit<EventProposal, "room_id">

/** The event format of a version: event IDs, the form as PDUs, redaction, hashes and signatures. */
export interface EventFormat {
  /** The most predecessors that an event names. */
  readonly maxPrevEvents: number
  /** True if PDUs name other events with their reference hashes; then `EventPosition.prevEvents` has them. */
  readonly namesReferenceHashes: boolean
  /** The SHA-256 of what redaction leaves of an event, without its signatures: in unpadded base64. */
  readonly referenceHash: (event: Event) => string
  /**
   * The m.room.create of a new room, with hash and signature. Its `room_id` is the ID of the room: a random one on the
   * server of the key, or the hash of the event. Then equal proposals of the same millisecond make the same room, and
   * `now` is to be raised where the room exists.
   */
  readonly createRoom: (proposal: RoomProposal, key: SigningKey, now: number) => Result.Result<Event, PduProblem>
  /** The ID of the m.room.create of a room, where it follows from the room's ID. */
  readonly createEventId: (roomId: RoomId) => EventId | undefined
  /**
   * A new event for a proposal: event ID, position in the graph, auth events, hash and our signature. For contents of our
   * own: throws `CanonicalJsonError` if the content has no canonical form, and does not look at the size.
   */
  readonly build: (proposal: EventProposal, position: EventPosition, key: SigningKey) => Event
  /**
   * The same for contents that a client wrote: says if they have no canonical form or make too large an event. Without
   * a key the event has no signature yet, and in the draft's version no hash: `sign` gives it both before it leaves the
   * server. The event names all of `position.prevEvents`, of which there are `maxPrevEvents` at most.
   */
  readonly tryBuild: (
    proposal: EventProposal,
    position: EventPosition,
    origin: ServerName,
    key: SigningKey | undefined
  ) => Result.Result<Event, PduProblem>
  /** The event stripped to what the protocol needs. Idempotent. */
  readonly redact: (event: Event) => Event
  /** The form that other servers receive, without `unsigned`. */
  readonly toPdu: (event: Event) => JsonObject
  /** The form in which an event without ID, time, hash and signature goes to the server that completes it. */
  readonly toTemplate: (event: Event) => JsonObject
  /** The event that a template from another server makes, with an ID of ours, hash and signature. */
  readonly complete: (template: unknown, key: SigningKey, now: number) => Result.Result<Event, PduProblem>
  /**
   * Checks form and size, not signatures. An event of `history` may name more events than new ones do: servers have not always limited
   * their number.
   */
  readonly fromPdu: (pdu: unknown, history?: boolean) => Result.Result<Event, PduProblem>
  /**
   * The servers whose signatures the event must bear. A countersignature (of an invite) may stand beside them and proves
   * that the other server knows; an event does not depend on it.
   */
  readonly signers: (event: Event) => ReadonlyArray<ServerName>
  /**
   * The m.room.invite_join that a membership carries which another server made than the sender's own. Those who signed
   * it are verified as those who signed the membership. Only in the draft's version.
   */
  readonly inviteJoinOf: (event: Event) => Event | undefined
  /** The membership that an m.room.invite_join asks for. */
  readonly membershipFor: (inviteJoin: Event) => EventProposal
  /**
   * Checks signatures and hash, also those of the m.room.invite_join that the event carries. A wrong hash under a right
   * signature gives the redacted event, a wrong signature a problem.
   */
  readonly verify: (
    event: Event,
    keys: (server: ServerName) => VerifyKeys,
    isRight?: SignatureCheck
  ) => Result.Result<Event, PduProblem>
  /** Whether the event bears a signature of the server by one of the keys. The hash is not checked. */
  readonly isSignedBy: (event: Event, server: ServerName, keys: VerifyKeys) => boolean
  /** Adds our signature, and the content hash if there is none yet. */
  readonly sign: (event: Event, key: SigningKey) => Event
}

/** The power levels of a state, as the rules of a version read them. Creators of version 12 have `Infinity`. */
export interface Levels {
  /** The level of a user. */
  readonly user: (userId: string) => number
  /** The level that a sender needs for an event of this type. */
  readonly event: (type: string, isState: boolean) => number
  /** The level that one of these keys of m.room.power_levels sets, or its default. */
  readonly of: (key: LevelKey) => number
  /** The level that `notifications` names for a key such as `room`; 50 by default. */
  readonly notification: (key: string) => number
}

/** Knowledge of a room beyond the auth events that an event names. */
export interface AuthContext {
  /** The m.room.create of the room, if it was accepted. Versions that do not name it among the auth events need it. */
  readonly create: Event | undefined
  /** True for events that were rejected. */
  readonly isRejected: (id: EventId) => boolean
}

/** The authorisation rules of a version. */
export interface AuthorisationRules {
  /** The types and state keys of the state that an event names as its auth events. */
  readonly authEventKeys: (event: EventProposal) => ReadonlyArray<readonly [type: string, stateKey: string]>
  /** The types and state keys of the state that `authorise` reads: with m.room.create if that is no auth event. */
  readonly decidingKeys: (event: EventProposal) => ReadonlyArray<readonly [type: string, stateKey: string]>
  /** Undefined if the rules allow the event in that state, else why not. */
  readonly authorise: (event: Event, state: StateLookup) => Refusal | undefined
  /** The same in the state that the event itself names: `authEvents` are all of its auth events, in any order. */
  readonly authoriseByAuthEvents: (
    event: Event,
    authEvents: ReadonlyArray<Event>,
    context: AuthContext
  ) => Refusal | undefined
  /**
   * Whether an allowed redaction takes effect on the event that it names, once both are there. `state` is that before the
   * redaction.
   */
  readonly authoriseRedaction: (redaction: Event, target: Event, state: StateLookup) => Refusal | undefined
  /** The power levels of a state. */
  readonly levels: (state: StateLookup) => Levels
}

/** Further differences between versions. */
export interface RoomFeatures {
  /** True if a signature is accepted only if the key was valid at the `origin_server_ts` of the event. */
  readonly enforcesKeyValidity: boolean
  /** The join rules that allow knocks; none if the version has no knocks. */
  readonly knockRules: ReadonlySet<string>
  /** The join rules that admit members of other rooms; none if the version has no restricted rooms. */
  readonly restrictedRules: ReadonlySet<string>
  /** True if m.room.create names its sender as `creator`. */
  readonly namesCreator: boolean
  /** True if the sender of m.room.create and its `additional_creators` stand above all power levels. */
  readonly privilegesCreators: boolean
  /** True if m.room.redaction names the redacted event in its content. Events have it as `redacts` in all versions. */
  readonly redactsInContent: boolean
  /**
   * True if the rules allow an m.room.redaction whatever it names: clients receive it only if it strips the event, once both are
   * there.
   */
  readonly withholdsRedactions: boolean
}

/** A room version: event format, authorisation rules, state resolution and further features. */
export interface RoomVersion extends EventFormat, AuthorisationRules, RoomFeatures {
  readonly id: string
  /** The state resolution of the version. */
  readonly stateResolution: StateResolution
}
