/**
 * Reads PDUs of room versions 1 to 12 that other servers sent: their form and size, not their signatures. PDUs that cannot
 * be read are dropped, as "Checks performed on receipt of a PDU" of the server-server specification requires.
 */
import type { Event } from "@greenroom/protocol/Event"
import { exactText, withoutExactNumbers } from "@greenroom/protocol/ExactJson"
import { isEventId, isHistoricalUserId, isRoomId, serverPartOf } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { Result } from "effect"
import { CanonicalJsonError, encodeMembersOrThrow } from "../CanonicalJson.ts"
import { decodeHash } from "../ContentHash.ts"
import { checkSize, isKeyText, maxKeyLength } from "../PduSize.ts"
import type { PduProblem } from "../RoomVersion.ts"
import { eventIdOf, eventOf, type Pdu, type PduForm, type Seal, sealOfMembers } from "./PduForm.ts"

/** The most predecessors that an event has. */
export const maxPrevEvents = 20

/** The most auth events that an event has. */
export const maxAuthEvents = 10

/** The greatest depth of versions 1 to 5. */
const maxLongDepth = 2n ** 63n - 1n

const isHashId = (text: string): boolean => /^.[A-Za-z0-9_-]{43}$/.test(text)

const isSignatures = (value: Json | undefined): boolean =>
  isJsonObject(value) &&
  Object.values(value).every(
    (ofServer) => isJsonObject(ofServer) && Object.values(ofServer).every((entry) => typeof entry === "string")
  )

/** A hash may have any length: one that cannot match redacts the event, which other servers keep, too. */
const isHashes = (value: Json | undefined): boolean =>
  isJsonObject(value) && typeof value.sha256 === "string" && decodeHash(value.sha256) !== undefined

const isReference = (form: PduForm, value: Json): boolean =>
  form.eventIds === "chosen"
    ? Array.isArray(value) && value.length === 2 && isChosenEventId(value[0]) && isJsonObject(value[1])
    : isEventId(value)

const isChosenEventId = (value: Json | undefined): boolean => isEventId(value) && serverPartOf(value) !== undefined

const referenceProblem = (form: PduForm, value: Json | undefined, most: number, what: string): string | undefined => {
  if (!Array.isArray(value)) return `${what} is not a list`
  if (value.length > most) return `${what} has more than ${most} entries`
  return value.every((entry) => isReference(form, entry)) ? undefined : `an entry of ${what} does not name an event`
}

const roomProblem = ({ roomIds }: PduForm, pdu: JsonObject): string | undefined => {
  const { room_id: roomId, type } = pdu
  if (roomIds === "createHash" && type === "m.room.create") {
    return roomId === undefined ? undefined : "m.room.create has a room_id"
  }
  const isRight = isRoomId(roomId) && (roomIds === "createHash" ? isHashId(roomId) : serverPartOf(roomId) !== undefined)
  return isRight ? undefined : "room_id is not a room ID"
}

const isDepth = ({ numbers }: PduForm, depth: Json | undefined): boolean => {
  if (typeof depth === "number" && Number.isSafeInteger(depth)) return depth >= 0
  const text = numbers === "any" ? exactText(depth) : undefined
  return text !== undefined && /^\d+$/.test(text) && BigInt(text) <= maxLongDepth
}

/** The fault of the field of an m.room.member that determines its signers and auth events. Before version 8 it has no meaning. */
const memberProblem = ({ hasVouchers }: PduForm, { content, type }: JsonObject): string | undefined => {
  if (!hasVouchers) return undefined
  const { join_authorised_via_users_server: voucher, membership } = content as JsonObject
  if (type !== "m.room.member" || voucher === undefined || membership !== "join") return undefined
  return isHistoricalUserId(voucher) ? undefined : "join_authorised_via_users_server is not a user ID"
}

/** The fault in the form of a PDU. `exact` is the PDU with the numbers as they came. */
const problemOf = (form: PduForm, pdu: JsonObject, exact: JsonObject, history: boolean): string | undefined => {
  if (!Number.isSafeInteger(exact.origin_server_ts)) return "origin_server_ts is not a time in milliseconds"
  if (!isDepth(form, exact.depth)) return "depth is not a count"
  if (form.eventIds === "chosen" && !isChosenEventId(pdu.event_id)) return "event_id is not an event ID"
  const { keyLengths } = form
  if (!isKeyText(pdu.type, keyLengths)) return `type is not text of at most ${maxKeyLength} ${keyLengths} without NUL`
  if (pdu.state_key !== undefined && !isKeyText(pdu.state_key, keyLengths)) {
    return `state_key is not text of at most ${maxKeyLength} ${keyLengths} without NUL`
  }
  if (!isHistoricalUserId(pdu.sender)) return "sender is not a user ID"
  if (!isJsonObject(pdu.content)) return "content is not an object"
  if (!isHashes(pdu.hashes)) return "hashes has no sha256"
  if (!isSignatures(pdu.signatures)) return "signatures is not an object of objects of strings"
  const most = (limit: number) => (history ? Number.POSITIVE_INFINITY : limit)
  return (
    roomProblem(form, pdu) ??
    referenceProblem(form, pdu.prev_events, most(maxPrevEvents), "prev_events") ??
    referenceProblem(form, pdu.auth_events, most(maxAuthEvents), "auth_events") ??
    memberProblem(form, pdu)
  )
}

const malformed = (reason: string): Result.Result<never, PduProblem> => Result.fail({ _tag: "Malformed", reason })

/** The seals of events that were read and not verified yet: verifying them needs no second canonical form. */
const seals = new WeakMap<Event, Seal>()

/** The seal of an event that was just read, once. */
export const takeSeal = (event: Event): Seal | undefined => {
  const seal = seals.get(event)
  seals.delete(event)
  return seal
}

/** How many bytes the members make as an object. */
const sizeOf = (members: ReadonlyMap<string, string>): number => {
  let bytes = 1 + Math.max(1, members.size)
  for (const member of members.values()) bytes += Buffer.byteLength(member)
  return bytes
}

/** The event of a PDU, or the fault of its form or size. One of `history` may name any number of events. */
export const readPdu = (form: PduForm, value: unknown, history = false): Result.Result<Event, PduProblem> => {
  if (!isJsonObject(value)) return malformed("a PDU is an object")
  try {
    const { unsigned: _, ...pdu } = value
    return readWithMembers(form, pdu as Pdu, encodeMembersOrThrow(pdu, form.numbers), history)
  } catch (error) {
    if (error instanceof CanonicalJsonError) return malformed(error.reason)
    throw error
  }
}

const readWithMembers = (
  form: PduForm,
  pdu: Pdu,
  members: ReadonlyMap<string, string>,
  history: boolean
): Result.Result<Event, PduProblem> => {
  const tooLarge = checkSize(sizeOf(members))
  if (tooLarge !== undefined) return Result.fail(tooLarge)
  const problem = problemOf(form, form.numbers === "any" ? withoutExactNumbers(pdu) : pdu, pdu, history)
  if (problem !== undefined) return malformed(problem)
  const seal = sealOfMembers(form, pdu, members)
  const event = eventOf(form, pdu, eventIdOf(form, pdu, seal.signed))
  seals.set(event, seal)
  return Result.succeed(event)
}
