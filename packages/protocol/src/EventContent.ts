/**
 * The content of every event type of the draft, as schemas and as types for programs that send and read events, with the
 * values that later room versions add. `EventCheck` applies them.
 *
 * Keys that are not named here are kept. Source: "Messages", "Presence", "Typing notifications" and "Voice over IP" of
 * the specification.
 */
import { Schema } from "effect"
import { EventId, isHistoricalUserId, RoomAlias, RoomId, UserId } from "./Identifiers.ts"
import { Integer } from "./Json.ts"
import type { MessageContent, OtherMessage } from "./MessageContent.ts"

const text = Schema.optionalKey(Schema.String)
const textOrNull = Schema.optionalKey(Schema.NullOr(Schema.String))
const optionalInteger = Schema.optionalKey(Integer)

/** m.room.create: the creator of the room, and the version of its format. */
export const RoomCreate = Schema.Struct({ creator: UserId, room_version: text })
export type RoomCreate = typeof RoomCreate.Type

/** m.room.name: the name of the room. */
export const RoomName = Schema.Struct({ name: Schema.String })
export type RoomName = typeof RoomName.Type

/** m.room.topic: the topic of the room. */
export const RoomTopic = Schema.Struct({ topic: Schema.String })
export type RoomTopic = typeof RoomTopic.Type

/** The values of `membership` in m.room.member. */
export const Membership = Schema.Literals(["invite", "join", "leave", "ban", "knock"])
export type Membership = typeof Membership.Type

/** m.room.member: the membership and the profile of the user in the state key. */
export const RoomMember = Schema.Struct({
  membership: Membership,
  displayname: textOrNull,
  avatar_url: textOrNull,
  reason: text
})
export type RoomMember = typeof RoomMember.Type

/** m.room.config: whether the room is in the list of public rooms. */
export const RoomConfig = Schema.Struct({ visibility: Schema.optionalKey(Schema.Literals(["public", "private"])) })
export type RoomConfig = typeof RoomConfig.Type

/** Room versions 8 to 12 add "restricted", and 10 to 12 "knock_restricted". */
export const JoinRule = Schema.Literals(["public", "knock", "invite", "private", "restricted", "knock_restricted"])
export type JoinRule = typeof JoinRule.Type

/** The room whose members may join a restricted room: `room_id`, where `type` is m.room_membership. */
export const AllowCondition = Schema.Struct({ type: Schema.String, room_id: Schema.optionalKey(RoomId) })
export type AllowCondition = typeof AllowCondition.Type

/** m.room.join_rules: the users that may join. `may_join` lists those that may join a private room of the draft. */
export const RoomJoinRules = Schema.Struct({
  join_rule: JoinRule,
  may_join: Schema.optionalKey(Schema.Array(UserId)),
  allow: Schema.optionalKey(Schema.Array(AllowCondition))
})
export type RoomJoinRules = typeof RoomJoinRules.Type

const levelsByUser = Schema.Record(Schema.String, Integer).check(
  Schema.makeFilter((users: { readonly [userId: string]: number }) => {
    const wrong = Object.keys(users).find((key) => !isHistoricalUserId(key))
    return wrong === undefined ? true : { path: [wrong], issue: "Expected a user ID, such as @alice:example.org" }
  })
)

/** m.room.power_levels: the levels of users, and those that actions need. */
export const RoomPowerLevels = Schema.Struct({
  users: Schema.optionalKey(levelsByUser),
  users_default: optionalInteger,
  events: Schema.optionalKey(Schema.Record(Schema.String, Integer)),
  notifications: Schema.optionalKey(Schema.Record(Schema.String, Integer)),
  events_default: optionalInteger,
  state_default: optionalInteger,
  ban: optionalInteger,
  kick: optionalInteger,
  redact: optionalInteger,
  invite: optionalInteger
})
export type RoomPowerLevels = typeof RoomPowerLevels.Type

/** m.room.aliases: the aliases on the server in the state key. */
export const RoomAliases = Schema.Struct({ aliases: Schema.Array(RoomAlias) })
export type RoomAliases = typeof RoomAliases.Type

/** m.room.invite_join: the draft names the type and leaves its keys open. */
export const RoomInviteJoin = Schema.Struct({})
export type RoomInviteJoin = typeof RoomInviteJoin.Type

/** m.room.message.feedback: the state of a message on a recipient's device. */
export const MessageFeedback = Schema.Struct({
  type: Schema.Literals(["delivered", "read"]),
  target_event_id: EventId
})
export type MessageFeedback = typeof MessageFeedback.Type

/** m.room.redaction: the event that it strips stands beside the content, in `redacts`. */
export const RoomRedaction = Schema.Struct({ reason: text })
export type RoomRedaction = typeof RoomRedaction.Type

/** The version is 0 in the draft, and a string such as `1` from version 1 of calls on. */
const call = { call_id: Schema.String, version: Schema.optionalKey(Schema.Union([Integer, Schema.String])) }
const lifetime = optionalInteger

/** m.call.invite: offers a call, for `lifetime` milliseconds. */
export const CallInvite = Schema.Struct({
  ...call,
  lifetime,
  offer: Schema.Struct({ type: Schema.String, sdp: Schema.String })
})
export type CallInvite = typeof CallInvite.Type

/** m.call.candidates: how the caller or callee can be reached. */
export const CallCandidates = Schema.Struct({
  ...call,
  candidates: Schema.Array(
    Schema.Struct({
      candidate: Schema.String,
      sdpMid: textOrNull,
      sdpMLineIndex: Schema.optionalKey(Schema.NullOr(Integer))
    })
  )
})
export type CallCandidates = typeof CallCandidates.Type

/** m.call.answer: takes a call. */
export const CallAnswer = Schema.Struct({
  ...call,
  lifetime,
  answer: Schema.Struct({ type: Schema.String, sdp: Schema.String })
})
export type CallAnswer = typeof CallAnswer.Type

/** m.call.hangup: ends a call. */
export const CallHangup = Schema.Struct({ ...call, reason: text })
export type CallHangup = typeof CallHangup.Type

/** The state events of the draft, by type. */
export const stateContents = {
  "m.room.create": RoomCreate,
  "m.room.name": RoomName,
  "m.room.topic": RoomTopic,
  "m.room.member": RoomMember,
  "m.room.config": RoomConfig,
  "m.room.join_rules": RoomJoinRules,
  "m.room.power_levels": RoomPowerLevels,
  "m.room.aliases": RoomAliases,
  "m.room.invite_join": RoomInviteJoin
} as const

/** The other events of the draft, by type, but for m.room.message, whose content depends on its msgtype. */
export const eventContents = {
  "m.room.message.feedback": MessageFeedback,
  "m.room.redaction": RoomRedaction,
  "m.call.invite": CallInvite,
  "m.call.candidates": CallCandidates,
  "m.call.answer": CallAnswer,
  "m.call.hangup": CallHangup
} as const

type Contents = typeof stateContents & typeof eventContents

/** The content of an event type, for programs: `ContentOf<"m.room.topic">`. */
export type ContentOf<Type extends string> = Type extends "m.room.message"
  ? MessageContent | OtherMessage
  : Type extends keyof Contents
    ? Contents[Type]["Type"]
    : { readonly [key: string]: unknown }
