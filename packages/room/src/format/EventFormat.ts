/**
 * The event formats of room versions 1 to 12: how events are made, redacted, signed and verified.
 *
 * Source: "Signing Events" of the server-server specification, and the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import {
  type EventId,
  formatEventId,
  formatRoomId,
  isHistoricalUserId,
  type ServerName,
  serverNameOf,
  serverPartOf
} from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json } from "@greenroom/protocol/Json"
import { Result } from "effect"
import { CanonicalJsonError } from "../CanonicalJson.ts"
import { decodeHash, hashedText, sha256 } from "../ContentHash.ts"
import { depthAfter } from "../EventGraph.ts"
import { randomId } from "../internal/randomId.ts"
import { checkSize, sealBytes } from "../PduSize.ts"
import type {
  AuthorisationRules,
  EventFormat,
  EventPosition,
  EventProposal,
  PduProblem,
  RoomProposal
} from "../RoomVersion.ts"
import { addSignature, checkSignature, type SigningKey, signBytes } from "../Signing.ts"
import { createEventIdOf, eventIdOf, eventOf, type Pdu, type PduForm, pduOf, sealOf, signedText } from "./PduForm.ts"
import { redactPdu } from "./RedactionAlgorithm.ts"
import { maxPrevEvents, readPdu, takeSeal } from "./readPdu.ts"

/** What distinguishes the event formats of versions 1 to 12. */
export interface FormatOptions extends PduForm {
  /** The ID of the room version. */
  readonly id: string
  /** True if m.room.create names its sender as `creator`. */
  readonly namesCreator: boolean
  readonly authEventKeys: AuthorisationRules["authEventKeys"]
}

const problemOf = (error: unknown): PduProblem => {
  if (error instanceof CanonicalJsonError) return { _tag: "Malformed", reason: error.reason }
  throw error
}

const bytesOf = (text: string): Uint8Array => Buffer.from(text, "utf8")

// Making events

/** The form in which a PDU refers to other events. */
const referencesOf = (form: PduForm, events: ReadonlyArray<{ id: EventId; hash: () => string | undefined }>): Json =>
  events.map(({ hash, id }) => {
    if (form.eventIds !== "chosen") return id
    const sha256 = hash()
    return [id, sha256 === undefined ? {} : { sha256 }]
  })

const authEventsFor = (options: FormatOptions, proposal: EventProposal, at: EventPosition): ReadonlyArray<Event> =>
  options.authEventKeys(proposal).flatMap(([type, stateKey]) => at.state(type, stateKey) ?? [])

/** The PDU of a proposal, without hashes and signatures. */
const draftPdu = (options: FormatOptions, proposal: EventProposal, at: EventPosition, origin: ServerName): Pdu => {
  const { content, redacts, sender, state_key, type } = proposal
  const pdu: Pdu = { type, sender, content, origin_server_ts: at.now, depth: depthAfter(at.prevEvents) }
  if (options.eventIds === "chosen") pdu.event_id = formatEventId(randomId(), origin)
  if (options.roomIds === "chosen" || type !== "m.room.create") pdu.room_id = proposal.room_id
  if (state_key !== undefined) pdu.state_key = state_key
  if (redacts !== undefined && options.redacts === "top") pdu.redacts = redacts
  if (redacts !== undefined && options.redacts === "content") pdu.content = { ...content, redacts }
  pdu.prev_events = referencesOf(
    options,
    at.prevEvents.map(({ event_id: id, referenceHash }) => ({ id, hash: () => referenceHash }))
  )
  pdu.auth_events = referencesOf(
    options,
    authEventsFor(options, proposal, at).map((event) => ({
      id: event.event_id,
      hash: () => referenceHashOf(options, event)
    }))
  )
  return pdu
}

const referenceHashOf = (form: PduForm, event: Event): string => sha256(signedText(form, pduOf(form, event)))

const withSignature = (event: Event, signed: string, key: SigningKey): Event => ({
  ...event,
  signatures: addSignature(event.signatures, key, signBytes(bytesOf(signed), key))
})

/** The event of a PDU without hashes and signatures, and how many bytes it has with them at most. */
const finish = (form: PduForm, draft: Pdu, origin: ServerName, key: SigningKey | undefined) => {
  const hashed = hashedText(draft, form.numbers)
  const pdu: Pdu = { ...draft, hashes: { sha256: sha256(hashed) }, signatures: {} }
  const signed = signedText(form, pdu)
  const event = eventOf(form, pdu, eventIdOf(form, pdu, signed))
  return {
    event: key === undefined ? event : withSignature(event, signed, key),
    bytes: Buffer.byteLength(hashed) + sealBytes(origin)
  }
}

const annotated = (event: Event, at: EventPosition): Event => {
  const replaced = event.state_key === undefined ? undefined : at.state(event.type, event.state_key)
  return replaced === undefined ? event : { ...event, replaces_state: replaced.event_id }
}

const build =
  (options: FormatOptions): EventFormat["build"] =>
  (proposal, at, key) =>
    annotated(finish(options, draftPdu(options, proposal, at, key.serverName), key.serverName, key).event, at)

const tryBuild =
  (options: FormatOptions): EventFormat["tryBuild"] =>
  (proposal, at, origin, key) => {
    try {
      const { bytes, event } = finish(options, draftPdu(options, proposal, at, origin), origin, key)
      const problem = checkSize(bytes)
      return problem === undefined ? Result.succeed(annotated(event, at)) : Result.fail(problem)
    } catch (error) {
      return Result.fail(problemOf(error))
    }
  }

const createRoom =
  (options: FormatOptions): EventFormat["createRoom"] =>
  (proposal: RoomProposal, key, now) => {
    const content = {
      ...proposal.content,
      ...(options.namesCreator ? { creator: proposal.sender } : {}),
      room_version: options.id
    }
    const whole: EventProposal = { ...proposal, content, room_id: formatRoomId(randomId(), key.serverName) }
    return tryBuild(options)(whole, { prevEvents: [], state: () => undefined, now }, key.serverName, key)
  }

// Templates

const toTemplate =
  (form: PduForm): EventFormat["toTemplate"] =>
  (event) => {
    const { event_id: _, hashes: __, signatures: ___, ...template } = pduOf(form, event)
    return template
  }

const complete =
  (options: FormatOptions): EventFormat["complete"] =>
  (template, key, now) => {
    if (!isJsonObject(template)) return Result.fail({ _tag: "Malformed", reason: "a PDU is an object" })
    const { event_id: _, hashes: __, origin: ___, signatures: ____, unsigned: _____, ...rest } = template
    const draft: Pdu = { ...rest, origin_server_ts: now }
    if (options.eventIds === "chosen") draft.event_id = formatEventId(randomId(), key.serverName)
    const unhashed = { ...draft, hashes: { sha256: "A".repeat(43) }, signatures: {} }
    return Result.flatMap(readPdu(options, unhashed), () => {
      const { bytes, event } = finish(options, draft, key.serverName, key)
      const problem = checkSize(bytes)
      return problem === undefined ? Result.succeed(event) : Result.fail(problem)
    })
  }

// Redaction

const redact =
  (form: PduForm): EventFormat["redact"] =>
  (event) => {
    const redacted: Record<string, unknown> = {
      ...eventOf(form, redactPdu(form.redaction, pduOf(form, event)), event.event_id)
    }
    if (event.replaces_state !== undefined) redacted.replaces_state = event.replaces_state
    const because = event.unsigned?.redacted_because
    if (because !== undefined) redacted.unsigned = { redacted_because: because }
    return redacted as unknown as Event
  }

// Signatures

/** An invite by a token is made by the server of the invited user, in the name of the user who stored the token. */
const isThirdPartyInvite = ({ content, type }: Event): boolean =>
  type === "m.room.member" && content.membership === "invite" && content.third_party_invite !== undefined

const signers =
  ({ eventIds, hasVouchers }: FormatOptions): EventFormat["signers"] =>
  (event) => {
    const servers = new Set<ServerName>()
    if (!isThirdPartyInvite(event)) servers.add(serverNameOf(event.sender))
    if (eventIds === "chosen") servers.add(serverPartOf(event.event_id)!)
    const { join_authorised_via_users_server: voucher, membership } = event.content
    const isVouchedFor = hasVouchers && event.type === "m.room.member" && membership === "join"
    if (isVouchedFor && isHistoricalUserId(voucher)) servers.add(serverNameOf(voucher))
    return [...servers]
  }

/** Whether the event has this hash, in whatever form of base64. */
const hasHash = (event: Event, hash: string): boolean => {
  const given = event.hashes?.sha256
  if (given === hash) return true
  const [right, stated] = [decodeHash(hash), decodeHash(given ?? "")]
  return right !== undefined && stated !== undefined && Buffer.compare(right, stated) === 0
}

const verify =
  (options: FormatOptions): EventFormat["verify"] =>
  (event, keys, isRight) => {
    try {
      const { hash, signed } = takeSeal(event) ?? sealOf(options, pduOf(options, event))
      const bytes = bytesOf(signed)
      for (const server of signers(options)(event)) {
        const problem = checkSignature(bytes, event.signatures, server, keys(server), isRight)
        if (problem !== undefined) return Result.fail({ _tag: "BadSignature", reason: problem.reason })
      }
      return Result.succeed(hasHash(event, hash) ? event : redact(options)(event))
    } catch (error) {
      return Result.fail(problemOf(error))
    }
  }

const isSignedBy =
  (form: PduForm): EventFormat["isSignedBy"] =>
  (event, server, keys) => {
    if (event.signatures[server] === undefined) return false
    return checkSignature(bytesOf(signedText(form, pduOf(form, event))), event.signatures, server, keys) === undefined
  }

/** The event format of a room version. */
export const eventFormat = (options: FormatOptions): EventFormat => ({
  maxPrevEvents,
  namesReferenceHashes: options.eventIds === "chosen",
  referenceHash: (event) => referenceHashOf(options, event),
  createRoom: createRoom(options),
  createEventId: (roomId) => (options.roomIds === "createHash" ? createEventIdOf(roomId) : undefined),
  build: build(options),
  tryBuild: tryBuild(options),
  redact: redact(options),
  toPdu: (event) => pduOf(options, event),
  toTemplate: toTemplate(options),
  complete: complete(options),
  fromPdu: (pdu, history) => readPdu(options, pdu, history),
  signers: signers(options),
  inviteJoinOf: () => undefined,
  membershipFor: (inviteJoin) => {
    throw new Error(`${inviteJoin.event_id} is not an event of room version ${options.id}`)
  },
  verify: verify(options),
  isSignedBy: isSignedBy(options),
  sign: (event, key) => withSignature(event, signedText(options, pduOf(options, event)), key)
})
