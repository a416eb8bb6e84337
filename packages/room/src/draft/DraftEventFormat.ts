/**
 * The event format of the draft's room version: event IDs that the origin chooses, the PDU form of `DraftPdu`, SHA-256 and
 * Ed25519 over that form. Source: "PDUs and EDUs" of the draft.
 */
import type { Event, Signatures } from "@greenroom/protocol/Event"
import { type EventId, formatEventId, formatRoomId, type ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json } from "@greenroom/protocol/Json"
import { Result } from "effect"
import { boundOrThrow, CanonicalJsonError, encodeOrThrow } from "../CanonicalJson.ts"
import { sha256 } from "../ContentHash.ts"
import { depthAfter } from "../EventGraph.ts"
import { randomId } from "../internal/randomId.ts"
import { checkSize, maxPduBytes, sealBytes } from "../PduSize.ts"
import type { EventFormat, EventPosition, EventProposal, PduProblem } from "../RoomVersion.ts"
import { addSignature, checkSignature, signBytes, type VerifyKeys } from "../Signing.ts"
import { authEventKeys } from "./Authorisation.ts"
import { fromPdu, hashOf, maxPrevEvents, toPdu, toUnhashedPdu } from "./DraftPdu.ts"
import { inviteJoinOf, membershipFor, saysWhatWasAsked } from "./InviteJoin.ts"
import { powerLevelsIn, userLevel } from "./PowerLevels.ts"
import { redact } from "./Redaction.ts"

const chooseAuthEvents = (proposal: EventProposal, at: EventPosition): ReadonlyArray<EventId> => {
  const ids: Array<EventId> = []
  for (const [type, stateKey] of authEventKeys(proposal)) {
    const event = at.state(type, stateKey)
    if (event !== undefined) ids.push(event.event_id)
  }
  return ids
}

/** The content that servers sign: the redacted PDU without its signatures. */
const signedText = (event: Event): string => {
  const redacted = redact(event)
  const pdu = toUnhashedPdu(redacted)
  pdu.hashes = redacted.hashes!
  return encodeOrThrow(pdu)
}

const signedBytes = (event: Event): Uint8Array => Buffer.from(signedText(event), "utf8")

const withHash = (event: Event): Event => (event.hashes === undefined ? { ...event, hashes: hashOf(event) } : event)

const sign: EventFormat["sign"] = (event, key) => {
  const hashed = withHash(event)
  return { ...hashed, signatures: addSignature(event.signatures, key, signBytes(signedBytes(hashed), key)) }
}

const positioned = (proposal: EventProposal, at: EventPosition, origin: ServerName): Event => {
  const event: Record<string, Json | Signatures> = {
    event_id: formatEventId(randomId(), origin),
    room_id: proposal.room_id,
    type: proposal.type,
    sender: proposal.sender,
    origin,
    origin_server_ts: at.now,
    content: proposal.content
  }
  if (proposal.state_key !== undefined) {
    event.state_key = proposal.state_key
    event.power_level = userLevel(powerLevelsIn(at.state), proposal.sender)
    const replaced = at.state(proposal.type, proposal.state_key)
    if (replaced !== undefined) event.replaces_state = replaced.event_id
  }
  if (proposal.redacts !== undefined) event.redacts = proposal.redacts
  if (proposal.invite_join !== undefined) event.invite_join = proposal.invite_join
  event.prev_events = at.prevEvents.map((prevEvent) => prevEvent.event_id)
  event.auth_events = chooseAuthEvents(proposal, at)
  event.depth = depthAfter(at.prevEvents)
  event.signatures = {}
  return event as unknown as Event
}

const build: EventFormat["build"] = (proposal, at, key) => sign(positioned(proposal, at, key.serverName), key)

const malformed = (error: unknown): PduProblem => {
  if (error instanceof CanonicalJsonError) return { _tag: "Malformed", reason: error.reason }
  throw error
}

/** An upper bound of the bytes of a PDU without the client's content and without the predecessors, whose IDs others chose. */
const frameBytes = 32_768

/** Throws `CanonicalJsonError` if what the client wrote has no canonical form. */
const sizeProblem = (event: Event): PduProblem | undefined => {
  const { content, invite_join = null, prev_events, state_key = "", type } = event
  const bound = boundOrThrow({ type, state_key, content, invite_join: invite_join as Json, prev_events })
  if (bound + frameBytes <= maxPduBytes) return undefined
  return checkSize(Buffer.byteLength(encodeOrThrow(toUnhashedPdu(event))) + sealBytes(event.origin))
}

const tryBuild: EventFormat["tryBuild"] = (proposal, at, origin, key) => {
  try {
    const event = positioned(proposal, at, origin)
    const problem = sizeProblem(event)
    if (problem !== undefined) return Result.fail(problem)
    return Result.succeed(key === undefined ? event : sign(event, key))
  } catch (error) {
    return Result.fail(malformed(error))
  }
}

const toTemplate: EventFormat["toTemplate"] = (event) => {
  const { hashes: _, origin: __, pdu_id: ___, signatures: ____, ts: _____, ...template } = toPdu(event)
  return template
}

const complete: EventFormat["complete"] = (template, key, now) => {
  if (!isJsonObject(template)) return Result.fail({ _tag: "Malformed", reason: "a PDU is an object" })
  const whole = {
    ...template,
    pdu_id: randomId(),
    origin: key.serverName,
    ts: now,
    hashes: { sha256: "A".repeat(43) },
    signatures: {}
  }
  return Result.map(fromPdu(whole), ({ hashes: _, ...event }) => sign(event as Event, key))
}

const signers: EventFormat["signers"] = (event) => [event.origin]

const checkSignatures = (event: Event, keys: (server: ServerName) => VerifyKeys): PduProblem | undefined => {
  const bytes = signedBytes(event)
  for (const server of signers(event)) {
    const problem = checkSignature(bytes, event.signatures, server, keys(server))
    if (problem !== undefined) return { _tag: "BadSignature", reason: problem.reason }
  }
  return undefined
}

const isWhole = (event: Event): boolean => hashOf(event).sha256 === event.hashes?.sha256

const check = (event: Event, keys: (server: ServerName) => VerifyKeys): Result.Result<Event, PduProblem> => {
  const problem = checkSignatures(event, keys)
  if (problem !== undefined) return Result.fail(problem)
  const inviteJoin = inviteJoinOf(event)
  if (inviteJoin === undefined) return Result.succeed(isWhole(event) ? event : redact(event))
  const unasked = checkSignatures(inviteJoin, keys)
  if (unasked !== undefined) return Result.fail(unasked)
  // Keys that the user did not send are no part of the event, even if they are signed.
  const isTrue = isWhole(event) && isWhole(inviteJoin) && saysWhatWasAsked(event, inviteJoin)
  return Result.succeed(isTrue ? event : redact(event))
}

const verify: EventFormat["verify"] = (event, keys) => {
  try {
    return check(event, keys)
  } catch (error) {
    return Result.fail(malformed(error))
  }
}

/** A draft room has no ID of its own making: it is a random one, like those of events. */
const createRoom: EventFormat["createRoom"] = (proposal, key, now) => {
  const whole = { ...proposal, room_id: formatRoomId(randomId(), key.serverName) }
  return tryBuild(whole, { prevEvents: [], state: () => undefined, now }, key.serverName, key)
}

/** The event format of the draft's room version. */
export const draftEventFormat: EventFormat = {
  maxPrevEvents,
  namesReferenceHashes: false,
  referenceHash: (event) => sha256(signedText(event)),
  createRoom,
  createEventId: () => undefined,
  build,
  tryBuild,
  redact,
  toPdu,
  toTemplate,
  complete,
  fromPdu,
  signers,
  inviteJoinOf,
  membershipFor,
  verify,
  isSignedBy: (event, server, keys) =>
    checkSignature(signedBytes(withHash(event)), event.signatures, server, keys) === undefined,
  sign
}
