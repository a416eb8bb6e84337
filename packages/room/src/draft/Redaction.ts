/**
 * Redaction in the draft's room version: an event stripped to what the protocol needs. Its signature is over this form, so
 * that a redacted event still verifies. Everything that the authorisation rules read survives, so that a redaction never
 * changes what is allowed. `format/RedactionAlgorithm` has the redaction of room versions 1 to 12.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { hashOf, toPdu } from "./DraftPdu.ts"
import { inviteJoinOf } from "./InviteJoin.ts"

/** The keys of the event itself that stay. `redacts` stays because it decides whether a redaction is allowed. */
const keptKeys: ReadonlyArray<string> = [
  "event_id",
  "room_id",
  "type",
  "sender",
  "origin",
  "origin_server_ts",
  "state_key",
  "prev_events",
  "auth_events",
  "depth",
  "redacts",
  "replaces_state",
  "hashes",
  "signatures"
]

/** The keys of the content that stay, by event type. Of all other types nothing stays. */
const keptContent: ReadonlyMap<string, ReadonlyArray<string>> = new Map([
  ["m.room.create", ["creator", "room_version", "m.federate"]],
  ["m.room.member", ["membership"]],
  ["m.room.invite_join", ["target_host"]],
  ["m.room.join_rules", ["join_rule", "may_join"]],
  [
    "m.room.power_levels",
    ["users", "users_default", "events", "events_default", "state_default", "ban", "kick", "redact", "invite"]
  ],
  ["m.room.aliases", ["aliases"]]
])

const none: JsonObject = {}

/** The content that stays of an event of this type. */
export const redactContent = (type: string, content: JsonObject): JsonObject => {
  const kept = keptContent.get(type)
  if (kept === undefined) return none
  const out: Record<string, Json> = {}
  for (const key of kept) if (Object.hasOwn(content, key)) out[key] = content[key]!
  return out
}

/**
 * The event stripped, and with it the m.room.invite_join that it carries. The hash is that of the event with all that is
 * stripped. Of the local annotations only the reason of the redaction stays. Idempotent.
 */
export const redact = (event: Event): Event => {
  const out: Record<string, unknown> = {}
  for (const key of keptKeys) if (event[key] !== undefined) out[key] = event[key]
  out.content = redactContent(event.type, event.content)
  out.hashes ??= hashOf(event)
  const inviteJoin = inviteJoinOf(event)
  if (inviteJoin !== undefined) out.invite_join = toPdu(redact(inviteJoin))
  const because = event.unsigned?.redacted_because
  if (because !== undefined) out.unsigned = { redacted_because: because }
  return out as unknown as Event
}
