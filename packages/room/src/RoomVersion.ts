/**
 * A room version: everything that depends on the format of a room. Actors, store and gateway know rooms only through
 * this interface, so a further version is one more implementation and no change elsewhere.
 *
 * All of it is pure and synchronous.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { Result } from "effect"
import type { SigningKey, VerifyKeys } from "./Signing.ts"

/** Looks up the state event of a type and state key; undefined where there is none. */
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

/** What a user wants to happen, before it has a place in the event graph. */
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

/** Where an event goes in the graph. */
export interface EventPlace {
  readonly prevEvents: ReadonlyArray<{ readonly event_id: EventId; readonly depth: number }>
  /** The state before the event. */
  readonly state: StateLookup
  /** Milliseconds since 1970. */
  readonly now: number
}

/** Why the rules do not allow an event. `rule` quotes the rule in words a person understands. */
export interface Refusal {
  readonly rule: string
}

/** How a PDU from another server can be wrong. */
export type PduProblem =
  | { readonly _tag: "Malformed"; readonly reason: string }
  | { readonly _tag: "TooLarge"; readonly bytes: number }
  | { readonly _tag: "BadSignature"; readonly reason: string }

/** Where states differ. What all of them agree on is told only if it is asked for. */
export interface StateConflict {
  /** The events of each key that the states do not all set to the same event, each event once: the conflicted state set. */
  readonly conflicted: ReadonlyMap<string, ReadonlyArray<EventId>>
  /** The events in conflict, and the auth events that take part by the `extent` of the resolution. */
  readonly fullConflictedSet: ReadonlySet<EventId>
  /** The event that all states set a key to, if there is one. */
  readonly unconflicted: (key: string) => EventId | undefined
}

export interface StateResolution {
  /**
   * The auth events that take part beside the events in conflict: none; those in the auth chains of some states and not
   * of all; or these and all that lie between events in conflict.
   */
  readonly extent: "conflicted" | "authDifference" | "authDifferenceAndSubgraph"
  /**
   * The keys that were in conflict with the events that they are set to. Keys that it does not name are set to none. The
   * same for every server that has the same events. `event` knows the full conflicted set, what all states agree on, and
   * the auth events of both.
   */
  readonly resolve: (conflict: StateConflict, event: (id: EventId) => Event | undefined) => ReadonlyMap<string, EventId>
}

export interface RoomVersion {
  readonly id: string
  /** The most predecessors that an event names. */
  readonly maxPrevEvents: number
  /**
   * A new event for a proposal: event ID, place in the graph, auth events, hash and our signature. For contents of our
   * own: throws `CanonicalJsonError` where the content has no canonical form, and does not look at the size.
   */
  readonly build: (proposal: EventProposal, place: EventPlace, key: SigningKey) => Event
  /**
   * The same for contents that a client wrote: says if they have no canonical form or make too large an event. Without
   * a key the event has neither hash nor signature yet: `sign` gives it both before it leaves the server. The event names
   * all of `place.prevEvents`, of which there are `maxPrevEvents` at most.
   */
  readonly tryBuild: (
    proposal: EventProposal,
    place: EventPlace,
    origin: ServerName,
    key: SigningKey | undefined
  ) => Result.Result<Event, PduProblem>
  /** The types and state keys of the state that decides whether an event is allowed. */
  readonly authEventKeys: (event: EventProposal) => ReadonlyArray<readonly [type: string, stateKey: string]>
  /** Undefined if the rules allow the event in that state, else why not. */
  readonly authorise: (event: Event, state: StateLookup) => Refusal | undefined
  /**
   * The same in the state that the event itself names: `authEvents` are all of its auth events, none of them rejected.
   */
  readonly authoriseByAuthEvents: (event: Event, authEvents: ReadonlyArray<Event>) => Refusal | undefined
  /**
   * Whether an allowed redaction takes effect on the event that it names. `state` is that before the redaction.
   */
  readonly authoriseRedaction: (redaction: Event, target: Event, state: StateLookup) => Refusal | undefined
  /** The event stripped to what the protocol needs. Idempotent. */
  readonly redact: (event: Event) => Event
  /** How one state follows from several. `resolveStates` of `StateConflict` applies it to whole states. */
  readonly stateResolution: StateResolution
  /** The form that other servers receive, without `unsigned`. */
  readonly toPdu: (event: Event) => JsonObject
  /** The form in which an event without ID, time, hash and signature goes to the server that completes it. */
  readonly toTemplate: (event: Event) => JsonObject
  /** The event that a template from another server makes, with an ID of ours, hash and signature. */
  readonly complete: (template: unknown, key: SigningKey, now: number) => Result.Result<Event, PduProblem>
  /** Checks form and size, not signatures. */
  readonly fromPdu: (pdu: unknown) => Result.Result<Event, PduProblem>
  /**
   * The servers whose signature the event must bear: its origin. A countersignature (of an invite) may stand beside it
   * and proves that the other server knows; an event does not depend on it.
   */
  readonly signers: (event: Event) => ReadonlyArray<ServerName>
  /**
   * The m.room.invite_join that a membership carries which another server made than the sender's own. Those who signed
   * it are verified as those who signed the membership.
   */
  readonly inviteJoinOf: (event: Event) => Event | undefined
  /** The membership that an m.room.invite_join asks for. */
  readonly membershipFor: (inviteJoin: Event) => EventProposal
  /**
   * Checks signatures and hash, also those of the m.room.invite_join that the event carries. A wrong hash under a right
   * signature gives the redacted event, a wrong signature a problem.
   */
  readonly verify: (event: Event, keys: (server: ServerName) => VerifyKeys) => Result.Result<Event, PduProblem>
  /** Adds our signature, and the hash where there is none yet. */
  readonly sign: (event: Event, key: SigningKey) => Event
}
