/**
 * Which events an event names as its auth events, and whether those that it names are right.
 *
 * Source: "Auth events selection" of the server-server specification, and the rules of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import { createEventIdOf, namesAuthEventTwice } from "../format/PduForm.ts"
import type { AuthContext, AuthorisationRules, EventProposal, Refusal } from "../RoomVersion.ts"
import type { RuleOptions } from "./Subject.ts"
import { tokenOf } from "./ThirdPartyInviteRules.ts"

type StateKey = readonly [type: string, stateKey: string]

/** The types and state keys of the auth events of a membership, beside those of every event. */
const membershipKeys = ({ restrictedRules }: RuleOptions, event: EventProposal): ReadonlyArray<StateKey> => {
  const keys: Array<StateKey> = []
  const { content, sender, state_key: target } = event
  const { join_authorised_via_users_server: voucher, membership } = content
  if (target !== undefined && target !== sender) keys.push(["m.room.member", target])
  if (membership === "join" || membership === "invite" || membership === "knock") keys.push(["m.room.join_rules", ""])
  const token = membership === "invite" ? tokenOf(content) : undefined
  if (token !== undefined) keys.push(["m.room.third_party_invite", token])
  const isVouchedFor = restrictedRules.size > 0 && membership === "join" && typeof voucher === "string"
  if (isVouchedFor && voucher !== sender && voucher !== target) keys.push(["m.room.member", voucher])
  return keys
}

/** The types and state keys of the state that an event names as its auth events. */
export const authEventKeys =
  (options: RuleOptions): AuthorisationRules["authEventKeys"] =>
  (event) => {
    if (event.type === "m.room.create") return []
    const keys: Array<StateKey> = [
      ["m.room.power_levels", ""],
      ["m.room.member", event.sender]
    ]
    if (options.roomIds === "chosen") keys.unshift(["m.room.create", ""])
    if (event.type === "m.room.member") keys.push(...membershipKeys(options, event))
    return keys
  }

/** The same with m.room.create, which events of version 12 do not name. */
export const decidingKeys =
  (options: RuleOptions): AuthorisationRules["decidingKeys"] =>
  (event) => {
    const keys = authEventKeys(options)(event)
    return options.roomIds === "chosen" || event.type === "m.room.create" ? keys : [["m.room.create", ""], ...keys]
  }

const refusals = {
  incomplete: "The auth events of an event must be known",
  unexpected: "The auth events of an event are the state that decides about it, one of each sort",
  otherRoom: "The auth events of an event belong to its room",
  rejected: "An event must not rest on rejected events",
  noCreate: "A room begins with its m.room.create event"
} as const

const refusal = (rule: keyof typeof refusals): Refusal => ({ rule: refusals[rule] })

/** The m.room.create of the room, or why it is not there. */
const createFor = (
  { roomIds }: RuleOptions,
  event: Event,
  authEvents: ReadonlyArray<Event>,
  context: AuthContext
): Event | undefined => {
  if (roomIds === "chosen")
    return authEvents.find(({ state_key, type }) => type === "m.room.create" && state_key === "")
  const id = createEventIdOf(event.room_id)
  const { create, isRejected } = context
  return create?.event_id === id && create.type === "m.room.create" && !isRejected(id) ? create : undefined
}

/** Undefined if an event names the right events, none of which was rejected. */
export const authEventsRefusal = (
  options: RuleOptions,
  event: Event,
  authEvents: ReadonlyArray<Event>,
  context: AuthContext
): Refusal | undefined => {
  const expected = [...authEventKeys(options)(event)]
  if (authEvents.length !== event.auth_events.length) return refusal("incomplete")
  if (namesAuthEventTwice(event)) return refusal("unexpected")
  for (const authEvent of authEvents) {
    if (!event.auth_events.includes(authEvent.event_id)) return refusal("incomplete")
    const index = expected.findIndex(([type, stateKey]) => type === authEvent.type && stateKey === authEvent.state_key)
    if (index < 0) return refusal("unexpected")
    expected.splice(index, 1)
    if (authEvent.room_id !== event.room_id) return refusal("otherRoom")
    if (context.isRejected(authEvent.event_id)) return refusal("rejected")
  }
  if (event.type === "m.room.create") return undefined
  return createFor(options, event, authEvents, context) === undefined ? refusal("noCreate") : undefined
}
