/**
 * Redaction of PDUs in room versions 1 to 12: the keys that the protocol needs stay, all others are removed. Signatures and
 * event IDs are over this form.
 *
 * Source: "Redactions" of the room versions.
 */
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"

/** What a room version keeps of a redacted PDU. */
export interface RedactionAlgorithm {
  /** The keys of the PDU that stay. */
  readonly keys: ReadonlySet<string>
  /** The kept keys of the content, by event type. The content of other types becomes empty. */
  readonly content: ReadonlyMap<string, (content: JsonObject) => JsonObject>
}

const keep =
  (...keys: ReadonlyArray<string>) =>
  (content: JsonObject): JsonObject => {
    const out: Record<string, Json> = {}
    for (const key of keys) if (Object.hasOwn(content, key)) out[key] = content[key]!
    return out
  }

const powerLevelKeys = [
  "ban",
  "events",
  "events_default",
  "kick",
  "redact",
  "state_default",
  "users",
  "users_default"
] as const

const keysSince11: ReadonlyArray<string> = [
  "event_id",
  "type",
  "room_id",
  "sender",
  "state_key",
  "content",
  "hashes",
  "signatures",
  "depth",
  "prev_events",
  "auth_events",
  "origin_server_ts"
]

/** Versions 1 to 5. */
export const redactionV1: RedactionAlgorithm = {
  keys: new Set([...keysSince11, "prev_state", "origin", "membership"]),
  content: new Map([
    ["m.room.member", keep("membership")],
    ["m.room.create", keep("creator")],
    ["m.room.join_rules", keep("join_rule")],
    ["m.room.power_levels", keep(...powerLevelKeys)],
    ["m.room.aliases", keep("aliases")],
    ["m.room.history_visibility", keep("history_visibility")]
  ])
}

const without = (content: RedactionAlgorithm["content"], type: string) =>
  new Map([...content].filter(([eventType]) => eventType !== type))

/** Versions 6 and 7: aliases mean nothing. */
export const redactionV6: RedactionAlgorithm = {
  ...redactionV1,
  content: without(redactionV1.content, "m.room.aliases")
}

/** Version 8: the rooms whose members may join stay. */
export const redactionV8: RedactionAlgorithm = {
  ...redactionV6,
  content: new Map([...redactionV6.content, ["m.room.join_rules", keep("join_rule", "allow")]])
}

/** Versions 9 and 10: the authorising user of a join stays. */
export const redactionV9: RedactionAlgorithm = {
  ...redactionV8,
  content: new Map([...redactionV8.content, ["m.room.member", keep("membership", "join_authorised_via_users_server")]])
}

const keepMember = keep("membership", "join_authorised_via_users_server")

/** The `signed` object of an identity server is kept in an invite. */
const keepMemberWithSigned = (content: JsonObject): JsonObject => {
  const { third_party_invite: invite } = content
  if (!isJsonObject(invite)) return keepMember(content)
  return { ...keepMember(content), third_party_invite: keep("signed")(invite) }
}

/** Versions 11 and 12. */
export const redactionV11: RedactionAlgorithm = {
  keys: new Set(keysSince11),
  content: new Map([
    ...redactionV9.content,
    ["m.room.member", keepMemberWithSigned],
    ["m.room.create", (content) => content],
    ["m.room.power_levels", keep(...powerLevelKeys, "invite")],
    ["m.room.redaction", keep("redacts")]
  ])
}

const nothing: JsonObject = {}

/** The content of a PDU after redaction: the same object where nothing is removed. */
export const contentAfterRedaction = ({ content }: RedactionAlgorithm, pdu: JsonObject): JsonObject =>
  content.get(pdu.type as string)?.(pdu.content as JsonObject) ?? nothing

/** The PDU stripped. Idempotent. */
export const redactPdu = (algorithm: RedactionAlgorithm, pdu: JsonObject): Record<string, Json> => {
  const out: Record<string, Json> = {}
  for (const key of algorithm.keys) if (Object.hasOwn(pdu, key)) out[key] = pdu[key]!
  out.content = contentAfterRedaction(algorithm, pdu)
  return out
}
