/**
 * The PDU form of room versions 1 to 12. An event is its PDU with the ID beside it; keys that `Event` lacks, or has in
 * another form, are in `Event.wire`, so that `toPdu` returns the very PDU that was received.
 *
 * Source: "Event format" and "Event IDs" of the room versions, "Signing Events" of the server-server specification.
 */
import { hash } from "node:crypto"
import type { Event } from "@greenroom/protocol/Event"
import { parse as parseExact, withoutExactNumbers } from "@greenroom/protocol/ExactJson"
import { type EventId, isEventId, type RoomId, serverNameOf } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { type CanonicalNumbers, encodeOrThrow } from "../CanonicalJson.ts"
import { contentHash, sha256 } from "../ContentHash.ts"
import type { KeyLengths } from "../PduSize.ts"
import { sharedParts } from "../SharedParts.ts"
import { contentAfterRedaction, type RedactionAlgorithm, redactPdu } from "./RedactionAlgorithm.ts"

/** The form of the PDUs of a version. */
export interface PduForm {
  /**
   * The form of event IDs: chosen by the origin, so that PDUs contain theirs and reference others by pairs of ID and hashes;
   * or the reference hash in one of the alphabets of base64.
   */
  readonly eventIds: "chosen" | "base64" | "base64url"
  /** The form of room IDs: chosen by the creator's server, or the hash of an m.room.create, which then has no `room_id`. */
  readonly roomIds: "chosen" | "createHash"
  readonly numbers: CanonicalNumbers
  /** In what the length of a type and a state key is counted. */
  readonly keyLengths: KeyLengths
  /** The key in which an m.room.redaction names the event that it strips. */
  readonly redacts: "top" | "content"
  readonly redaction: RedactionAlgorithm
  /** True if a join may name a user that vouches for it, whose server signs it too. */
  readonly hasVouchers: boolean
}

/** A PDU whose form was checked, or that we make. */
export type Pdu = Record<string, Json>

/** The keys of a PDU that an event has in the same form. */
const sharedKeys: ReadonlyArray<string> = [
  "type",
  "sender",
  "origin_server_ts",
  "content",
  "state_key",
  "depth",
  "hashes",
  "signatures"
]

/** The key of a PDU that names what an m.room.redaction strips, or undefined. */
const redactsOf = ({ redacts }: PduForm, pdu: Pdu): EventId | undefined => {
  if (pdu.type !== "m.room.redaction") return undefined
  const named = redacts === "top" ? pdu.redacts : (pdu.content as JsonObject).redacts
  return isEventId(named) ? named : undefined
}

/** Whether the list names events by their IDs, each once. Lists are short. */
const isListOfIds = (references: ReadonlyArray<Json>): boolean =>
  references.every((reference, index) => typeof reference === "string" && references.indexOf(reference) === index)

const idsOf = (references: ReadonlyArray<Json>): ReadonlyArray<EventId> =>
  isListOfIds(references)
    ? (references as ReadonlyArray<EventId>)
    : [
        ...new Set(
          references.map(
            (reference) =>
              (typeof reference === "string" ? reference : (reference as ReadonlyArray<Json>)[0]) as EventId
          )
        )
      ]

/** True if the list of IDs says all that the PDU says. */
const isPlain = (references: ReadonlyArray<Json>, ids: ReadonlyArray<EventId>): boolean =>
  ids.length === references.length && ids.every((id, index) => id === references[index])

/** The keys that an event has of its own, by the form of its PDU and what that says. */
const readKeys = new Map<string, ReadonlySet<string>>()

const readKeysOf = (form: PduForm, pdu: Pdu): ReadonlySet<string> => {
  const hasRoom = form.roomIds === "chosen" || pdu.type !== "m.room.create"
  const hasRedacts = form.redacts === "top" && redactsOf(form, pdu) !== undefined
  const name = `${form.eventIds} ${hasRoom} ${hasRedacts}`
  const known = readKeys.get(name)
  if (known !== undefined) return known
  const read = new Set([...sharedKeys, "prev_events", "auth_events", "unsigned"])
  if (form.eventIds === "chosen") read.add("event_id")
  if (hasRoom) read.add("room_id")
  if (hasRedacts) read.add("redacts")
  readKeys.set(name, read)
  return read
}

const wireOf = (form: PduForm, pdu: Pdu, event: Event): JsonObject | undefined => {
  const wire: Pdu = {}
  const read = readKeysOf(form, pdu)
  for (const key of Object.keys(pdu)) {
    if (read.has(key)) continue
    // A key may be `__proto__`, which assignment would lose.
    Object.defineProperty(wire, key, { value: pdu[key], enumerable: true, configurable: true, writable: true })
  }
  for (const key of ["prev_events", "auth_events"] as const) {
    const references = pdu[key] as ReadonlyArray<Json>
    if (!isPlain(references, event[key])) wire[key] = references
  }
  if (pdu.depth !== event.depth) wire.depth = pdu.depth!
  return Object.keys(wire).length === 0 ? undefined : wire
}

/** The event of a PDU. A depth beyond 53 bits, which versions 1 to 5 have, counts as the greatest that there is. */
export const eventOf = (form: PduForm, pdu: Pdu, eventId: EventId): Event => {
  const plain = form.numbers === "any" ? withoutExactNumbers(pdu) : pdu
  const event = plainEventOf(form, plain, eventId)
  return plain === pdu ? event : { ...event, exact: exactTextOf(pdu) }
}

const exactTextOf = ({ signatures: _, ...pdu }: Pdu): string => encodeOrThrow(pdu, "any")

const plainEventOf = (form: PduForm, pdu: Pdu, eventId: EventId): Event => {
  const sender = pdu.sender as Event["sender"]
  const event: Record<string, unknown> = {
    event_id: eventId,
    ...sharedParts({
      room_id: (pdu.room_id as RoomId | undefined) ?? roomIdOf(eventId),
      type: pdu.type as string,
      sender,
      origin: serverNameOf(sender),
      auth_events: idsOf(pdu.auth_events as ReadonlyArray<Json>),
      ...(pdu.state_key === undefined ? {} : { state_key: pdu.state_key as string })
    }),
    origin_server_ts: pdu.origin_server_ts,
    content: pdu.content,
    prev_events: idsOf(pdu.prev_events as ReadonlyArray<Json>),
    depth: Math.min(pdu.depth as number, Number.MAX_SAFE_INTEGER),
    hashes: pdu.hashes,
    signatures: pdu.signatures
  }
  const redacts = redactsOf(form, pdu)
  if (redacts !== undefined) event.redacts = redacts
  const wire = wireOf(form, pdu, event as unknown as Event)
  if (wire !== undefined) event.wire = wire
  return event as unknown as Event
}

/** The PDU of an event, without `unsigned`. */
export const pduOf = (form: PduForm, event: Event): Pdu =>
  event.exact === undefined
    ? plainPduOf(form, event)
    : { ...(parseExact(event.exact) as JsonObject), signatures: event.signatures }

const plainPduOf = (form: PduForm, event: Event): Pdu => {
  const pdu: Pdu = {}
  for (const key of sharedKeys) if (event[key] !== undefined) pdu[key] = event[key] as Json
  pdu.prev_events = event.prev_events
  pdu.auth_events = event.auth_events
  if (form.eventIds === "chosen") pdu.event_id = event.event_id
  if (form.roomIds === "chosen" || event.type !== "m.room.create") pdu.room_id = event.room_id
  if (form.redacts === "top" && event.redacts !== undefined) pdu.redacts = event.redacts
  return event.wire === undefined ? pdu : { ...pdu, ...event.wire }
}

/** True if the PDU of an event names an event twice among its auth events. `Event.auth_events` has it once. */
export const namesAuthEventTwice = ({ auth_events, wire }: Event): boolean =>
  Array.isArray(wire?.auth_events) && wire.auth_events.length !== auth_events.length

/**
 * The content that servers sign, and whose hash is the reference hash: the redacted PDU without its signatures, in canonical
 * JSON.
 */
export const signedText = (form: PduForm, pdu: Pdu): string => {
  const { signatures: _, ...signed } = redactPdu(form.redaction, pdu)
  return encodeOrThrow(signed, form.numbers)
}

/** The parts of a canonical form that verifying a PDU needs: the text that its signatures cover, and the right content hash. */
export interface Seal {
  readonly signed: string
  readonly hash: string
}

/** The seal of a PDU. */
export const sealOf = (form: PduForm, pdu: Pdu): Seal => ({
  signed: signedText(form, pdu),
  hash: contentHash(pdu, form.numbers)
})

/** The same from the members of the PDU in canonical form. */
export const sealOfMembers = (form: PduForm, pdu: Pdu, members: ReadonlyMap<string, string>): Seal => {
  const hashed: Array<string> = []
  const signed: Array<string> = []
  const content = contentAfterRedaction(form.redaction, pdu)
  for (const [key, member] of members) {
    if (key !== "hashes" && key !== "signatures" && key !== "unsigned") hashed.push(member)
    if (!form.redaction.keys.has(key) || key === "signatures") continue
    const isCut = key === "content" && content !== pdu.content
    signed.push(isCut ? `"content":${encodeOrThrow(content, form.numbers)}` : member)
  }
  return { signed: `{${signed.join(",")}}`, hash: sha256(`{${hashed.join(",")}}`) }
}

/** The event ID of a PDU whose signed text is known. */
export const eventIdOf = (form: PduForm, pdu: Pdu, signed: string): EventId => {
  switch (form.eventIds) {
    case "chosen":
      return pdu.event_id as EventId
    case "base64":
      return `$${sha256(signed)}` as EventId
    case "base64url":
      return `$${hash("sha256", signed, "base64url")}` as EventId
  }
}

/** The room that an m.room.create makes, where its ID is the hash. */
export const roomIdOf = (createEventId: EventId): RoomId => `!${createEventId.slice(1)}` as RoomId

/** The m.room.create of a room, where the room's ID is its hash. */
export const createEventIdOf = (roomId: RoomId): EventId => `$${roomId.slice(1)}` as EventId
