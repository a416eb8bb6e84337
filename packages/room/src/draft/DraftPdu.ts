/**
 * The PDU form of the draft's room version: other names for the keys of an event. `fromPdu(toPdu(event))` is the event
 * again, unknown keys included, so that hashes and signatures, which are over this form, hold.
 *
 * | PDU | event |
 * |---|---|
 * | `pdu_id`, `origin` | `event_id` (`$pdu_id:origin`), `origin` |
 * | `context` | `room_id` |
 * | `ts` | `origin_server_ts` |
 * | `pdu_type` | `type` |
 * | `user_id` | `sender` |
 * | `prev_pdus`, `auth_pdus`: `[pdu_id, origin]` pairs | `prev_events`, `auth_events` |
 * | `redacts`: a `[pdu_id, origin]` pair | `redacts` |
 * | `prev_state_id`, `prev_state_origin` | `replaces_state` |
 * | `is_state` | whether there is a `state_key` |
 * | `content`, `state_key`, `depth`, `hashes`, `signatures`, `power_level` | the same |
 *
 * `unsigned` does not travel: it is neither sent nor taken from others. Source: "PDUs and EDUs" of the draft.
 */
import type { Event } from "@greenroom/protocol/Event"
import {
  type EventId,
  isEventId,
  isRoomId,
  isServerName,
  isUserId,
  localpartOf,
  serverPartOf
} from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { Result } from "effect"
import { encode, encodeOrThrow } from "../CanonicalJson.ts"
import { sha256 } from "../ContentHash.ts"
import { checkSize, isKeyText, maxKeyLength } from "../PduSize.ts"
import type { PduProblem } from "../RoomVersion.ts"
import { decodeBase64 } from "../Signing.ts"

/** The most predecessors that an event has. */
export const maxPrevEvents = 50

/** The most auth events that an event has. */
export const maxAuthEvents = 10

const pair = (id: EventId): readonly [pduId: string, origin: string] => [localpartOf(id), serverPartOf(id)!]

/** Keys of an event that have another name in a PDU, or none. No other PDU key may have these names. */
const eventKeys: ReadonlySet<string> = new Set([
  "exact",
  "event_id",
  "room_id",
  "type",
  "sender",
  "origin_server_ts",
  "prev_events",
  "auth_events",
  "replaces_state"
])

/** Keys of a PDU that `fromPdu` reads; all others, `power_level` among them, are kept as they are. */
const pduKeys: ReadonlySet<string> = new Set([
  "pdu_id",
  "origin",
  "context",
  "ts",
  "pdu_type",
  "user_id",
  "content",
  "prev_pdus",
  "auth_pdus",
  "depth",
  "is_state",
  "state_key",
  "prev_state_id",
  "prev_state_origin",
  "redacts",
  "hashes",
  "signatures"
])

const knownInEvent: ReadonlySet<string> = new Set([
  ...eventKeys,
  "origin",
  "content",
  "depth",
  "state_key",
  "redacts",
  "hashes",
  "signatures",
  "unsigned"
])

/** Copies what `known` does not name. A key may be `__proto__`, which assignment would lose. */
const copyUnknown = (from: object, known: ReadonlySet<string>, to: object): void => {
  for (const key of Object.keys(from)) {
    if (known.has(key)) continue
    const value = (from as Record<string, unknown>)[key]
    if (value !== undefined) {
      Object.defineProperty(to, key, { value, enumerable: true, configurable: true, writable: true })
    }
  }
}

/** The PDU without `hashes` and `signatures`: the content of the hash. */
export const toUnhashedPdu = (event: Event): Record<string, Json> => {
  const isState = event.state_key !== undefined
  const pdu: Record<string, Json> = {
    auth_pdus: event.auth_events.map(pair),
    content: event.content,
    context: event.room_id,
    depth: event.depth,
    is_state: isState,
    origin: event.origin,
    pdu_id: localpartOf(event.event_id),
    pdu_type: event.type,
    prev_pdus: event.prev_events.map(pair),
    ts: event.origin_server_ts,
    user_id: event.sender
  }
  if (event.state_key !== undefined) pdu.state_key = event.state_key
  if (event.redacts !== undefined) pdu.redacts = pair(event.redacts)
  if (event.replaces_state !== undefined) {
    pdu.prev_state_id = localpartOf(event.replaces_state)
    pdu.prev_state_origin = serverPartOf(event.replaces_state)!
  }
  copyUnknown(event, knownInEvent, pdu)
  return pdu
}

/** The content hash of an event, as in its `hashes`. */
export const hashOf = (event: Event): { readonly sha256: string } => ({
  sha256: sha256(encodeOrThrow(toUnhashedPdu(event)))
})

/** The PDU that other servers receive, of an event with hash and signature. */
export const toPdu = (event: Event): JsonObject => {
  const pdu = toUnhashedPdu(event)
  pdu.hashes = event.hashes!
  pdu.signatures = event.signatures
  return pdu
}

class Malformed {
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

/** Throws the fault unless the check holds; `readPdu` catches it. */
const demand: (holds: boolean, reason: string) => asserts holds = (holds, reason) => {
  if (!holds) throw new Malformed(reason)
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

const readEventId = (pduId: unknown, origin: unknown, what: string): EventId => {
  demand(typeof pduId === "string" && typeof origin === "string", `${what} is not a pair of strings`)
  const id = `$${pduId}:${origin}`
  demand(isServerName(origin) && !pduId.includes(":") && isEventId(id), `${what} is not the ID of a PDU`)
  return id
}

const readPair = (value: unknown, what: string): EventId => {
  demand(Array.isArray(value) && value.length === 2, `${what} is not a pair of strings`)
  return readEventId(value[0], value[1], what)
}

const readPairs = (value: unknown, most: number, what: string): ReadonlyArray<EventId> => {
  demand(Array.isArray(value), `${what} is not a list`)
  demand(value.length <= most, `${what} has more than ${most} entries`)
  const ids = value.map((entry) => readPair(entry, `an entry of ${what}`))
  demand(new Set(ids).size === ids.length, `${what} names an event twice`)
  return ids
}

const isSignatures = (value: unknown): boolean =>
  isJsonObject(value) &&
  Object.values(value).every(
    (ofServer) => isJsonObject(ofServer) && Object.values(ofServer).every((entry) => typeof entry === "string")
  )

const isHashes = (value: unknown): boolean =>
  isJsonObject(value) && typeof value.sha256 === "string" && decodeBase64(value.sha256)?.length === 32

const readState = (pdu: JsonObject, event: Record<string, unknown>): void => {
  const { is_state: isState, state_key: stateKey, prev_state_id: prevId, prev_state_origin: prevOrigin } = pdu
  demand(typeof isState === "boolean", "is_state is not a boolean")
  demand(isState === (stateKey !== undefined), "a PDU has a state_key if it is state, and only then")
  if (stateKey !== undefined) {
    demand(isKeyText(stateKey, "bytes"), `state_key is not text of at most ${maxKeyLength} bytes without NUL`)
    event.state_key = stateKey
  }
  if (prevId === undefined && prevOrigin === undefined) return
  demand(isState, "only state has prev_state_id and prev_state_origin")
  event.replaces_state = readEventId(prevId, prevOrigin, "prev_state_id with prev_state_origin")
}

const readPdu = (pdu: JsonObject): Event => {
  const event: Record<string, unknown> = {}
  event.event_id = readEventId(pdu.pdu_id, pdu.origin, "pdu_id with origin")
  demand(isRoomId(pdu.context) && serverPartOf(pdu.context) !== undefined, "context is not a room ID")
  demand(isKeyText(pdu.pdu_type, "bytes"), `pdu_type is not text of at most ${maxKeyLength} bytes without NUL`)
  demand(isUserId(pdu.user_id), "user_id is not a user ID")
  demand(isCount(pdu.ts), "ts is not a time in milliseconds")
  demand(isCount(pdu.depth) && pdu.depth > 0, "depth is not a positive integer")
  demand(isJsonObject(pdu.content), "content is not an object")
  demand(isHashes(pdu.hashes), "hashes has no sha256")
  demand(isSignatures(pdu.signatures), "signatures is not an object of objects of strings")
  demand(pdu.power_level === undefined || Number.isSafeInteger(pdu.power_level), "power_level is not an integer")
  event.room_id = pdu.context
  event.type = pdu.pdu_type
  event.sender = pdu.user_id
  event.origin = pdu.origin
  event.origin_server_ts = pdu.ts
  event.content = pdu.content
  readState(pdu, event)
  event.prev_events = readPairs(pdu.prev_pdus, maxPrevEvents, "prev_pdus")
  event.auth_events = readPairs(pdu.auth_pdus, maxAuthEvents, "auth_pdus")
  event.depth = pdu.depth
  if (pdu.redacts !== undefined) event.redacts = readPair(pdu.redacts, "redacts")
  event.hashes = pdu.hashes
  event.signatures = pdu.signatures
  for (const key of eventKeys) demand(!Object.hasOwn(pdu, key), `${key} is not a key of a PDU`)
  copyUnknown(pdu, pduKeys, event)
  return event as unknown as Event
}

const malformed = (reason: string): Result.Result<never, PduProblem> => Result.fail({ _tag: "Malformed", reason })

/** The event of a PDU, or the fault of its form or size. */
export const fromPdu = (value: unknown): Result.Result<Event, PduProblem> => {
  if (!isJsonObject(value)) return malformed("a PDU is an object")
  const { unsigned: _unsigned, ...pdu } = value
  const canonical = encode(pdu)
  if (Result.isFailure(canonical)) return malformed(canonical.failure.reason)
  const problem = checkSize(Buffer.byteLength(canonical.success))
  if (problem !== undefined) return Result.fail(problem)
  try {
    return Result.succeed(readPdu(pdu))
  } catch (error) {
    if (error instanceof Malformed) return malformed(error.reason)
    throw error
  }
}
