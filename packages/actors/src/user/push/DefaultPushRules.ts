/**
 * The push rules that every user has, the most important of each kind first.
 *
 * Source: "Predefined Rules" of "Push notifications" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import type { PushAction, PushRule, PushRuleset } from "./PushRule.ts"

const match = (key: string, pattern: string): JsonObject => ({ kind: "event_match", key, pattern })
const is = (key: string, value: Json): JsonObject => ({ kind: "event_property_is", key, value })
const contains = (key: string, value: Json): JsonObject => ({ kind: "event_property_contains", key, value })
const memberCount = (is: string): JsonObject => ({ kind: "room_member_count", is })

const sound = (value: string): JsonObject => ({ set_tweak: "sound", value })
const highlight: JsonObject = { set_tweak: "highlight" }
const notify = "notify"

const rule = (
  id: string,
  conditions: ReadonlyArray<JsonObject>,
  actions: ReadonlyArray<PushAction>,
  enabled = true
): PushRule => ({ rule_id: `.m.rule.${id}`, default: true, enabled, conditions, actions })

/** Rules that are the same for everybody. */
const master = rule("master", [], [], false)
const suppressNotices = rule("suppress_notices", [match("content.msgtype", "m.notice")], [])
const memberEvent = rule("member_event", [match("type", "m.room.member")], [])
const roomMention = rule(
  "is_room_mention",
  [is("content.m\\.mentions.room", true), { kind: "sender_notification_permission", key: "room" }],
  [notify, highlight]
)
const tombstone = rule("tombstone", [match("type", "m.room.tombstone"), match("state_key", "")], [notify, highlight])
const reaction = rule("reaction", [match("type", "m.reaction")], [])
const serverAcl = rule("room.server_acl", [match("type", "m.room.server_acl"), match("state_key", "")], [])
const suppressEdits = rule("suppress_edits", [is("content.m\\.relates_to.rel_type", "m.replace")], [])

const underride: ReadonlyArray<PushRule> = [
  rule("call", [match("type", "m.call.invite")], [notify, sound("ring")]),
  rule("encrypted_room_one_to_one", [memberCount("2"), match("type", "m.room.encrypted")], [notify, sound("default")]),
  rule("room_one_to_one", [memberCount("2"), match("type", "m.room.message")], [notify, sound("default")]),
  rule("message", [match("type", "m.room.message")], [notify]),
  rule("encrypted", [match("type", "m.room.encrypted")], [notify])
]

/** The push rules of a user without own changes. */
export const defaultRules = (userId: UserId): PushRuleset => ({
  override: [
    master,
    suppressNotices,
    rule(
      "invite_for_me",
      [match("type", "m.room.member"), match("content.membership", "invite"), match("state_key", userId)],
      [notify, sound("default")]
    ),
    memberEvent,
    rule("is_user_mention", [contains("content.m\\.mentions.user_ids", userId)], [notify, sound("default"), highlight]),
    roomMention,
    tombstone,
    reaction,
    serverAcl,
    suppressEdits
  ],
  content: [],
  room: [],
  sender: [],
  underride
})
