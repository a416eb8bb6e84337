/**
 * Checks an event that a client wants to send: its type, its state key, and its content by the schema of its type. A valid
 * event has a canonical JSON form and can be signed.
 *
 * Types that the draft does not name pass, as do keys that it does not name.
 * Source: "Messages" of the draft.
 */
import { Result, Schema } from "effect"
import { eventContents, RoomJoinRules, stateContents } from "./EventContent.ts"
import { isHistoricalUserId, isServerName } from "./Identifiers.ts"
import { describeIssue, keyText } from "./IssueDescription.ts"
import { isJsonObject, type JsonObject } from "./Json.ts"
import { BadJson } from "./MatrixError.ts"
import { messageTypes, OtherMessage } from "./MessageContent.ts"
import { isText, maxNameBytes } from "./Text.ts"

/** How deep the content of an event may nest; the content itself is the first level. */
export const maxContentDepth = 64

type Check = (content: JsonObject) => BadJson | undefined

const bad = (error: string): BadJson => new BadJson({ error })

const compile = (schema: Schema.ConstraintDecoder<unknown>): Check => {
  const decode = Schema.decodeUnknownResult(schema)
  return (content) => {
    const result = decode(content)
    return Result.isFailure(result) ? bad(describeIssue(result.failure.issue).text) : undefined
  }
}

const compileAll = (schemas: {
  readonly [type: string]: Schema.ConstraintDecoder<unknown>
}): ReadonlyMap<string, Check> => new Map(Object.entries(schemas).map(([type, schema]) => [type, compile(schema)]))

/** Entries of `allow` that are not conditions do not fail the event: they let no user join, as in the rules of rooms. */
const { allow: _, ...checkedJoinRules } = RoomJoinRules.fields

const stateChecks = compileAll({ ...stateContents, "m.room.join_rules": Schema.Struct(checkedJoinRules) })
const messageChecks = compileAll(messageTypes)
const otherMessage = compile(OtherMessage)

const checkMessage: Check = (content) => {
  const msgtype = content.msgtype
  const check = typeof msgtype === "string" ? messageChecks.get(msgtype) : undefined
  return (check ?? otherMessage)(content)
}

const eventChecks = new Map([...compileAll(eventContents), ["m.room.message", checkMessage] as const])

/** Types that the stream uses outside the events of a room. As room events they could only deceive. */
const ephemeralTypes: ReadonlySet<string> = new Set(["m.presence", "m.typing"])

/** The part of a value that has no canonical JSON form. */
interface Flaw {
  readonly path: string
  readonly expected: string
}

const flaw = (path: string, expected: string): Flaw => ({ path, expected })

const within = (key: string | number, inner: Flaw): Flaw =>
  flaw(inner.path === "" ? String(key) : `${key}.${inner.path}`, inner.expected)

const findFlaw = (value: unknown, depth: number): Flaw | undefined => {
  switch (typeof value) {
    case "string":
      return value.isWellFormed() ? undefined : flaw("", "well-formed Unicode")
    case "number":
      return Number.isSafeInteger(value) ? undefined : flaw("", "an integer between -(2^53)+1 and (2^53)-1")
    case "boolean":
      return undefined
    case "object":
      return value === null ? undefined : findFlawInside(value, depth)
    default:
      return flaw("", "a JSON value")
  }
}

const findFlawInside = (value: object, depth: number): Flaw | undefined => {
  if (depth > maxContentDepth) return flaw("", `at most ${maxContentDepth} levels of nesting`)
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const inner = findFlaw(value[index], depth + 1)
      if (inner !== undefined) return within(index, inner)
    }
    return undefined
  }
  for (const [key, member] of Object.entries(value)) {
    if (!key.isWellFormed()) return flaw(key.toWellFormed(), "a key of well-formed Unicode")
    const inner = findFlaw(member, depth + 1)
    if (inner !== undefined) return within(key, inner)
  }
  return undefined
}

/** Undefined if the value has a canonical JSON form: integers only, well-formed Unicode, bounded nesting. */
const checkCanonical = (value: unknown): BadJson | undefined => {
  const found = findFlaw(value, 1)
  if (found === undefined) return undefined
  return bad(found.path === "" ? `expected ${found.expected}` : `${keyText(found.path)}: expected ${found.expected}`)
}

/** Undefined for 1 to 255 bytes of well-formed Unicode without U+0000. */
export const checkEventType = (type: string): BadJson | undefined =>
  isText(type, 1) ? undefined : bad(`type: expected 1 to ${maxNameBytes} bytes of Unicode text`)

/** Undefined for a state key that an event of this type may have. */
const checkStateKey = (type: string, stateKey: string): BadJson | undefined => {
  if (!isText(stateKey)) return bad(`state_key: expected at most ${maxNameBytes} bytes of Unicode text`)
  if (type === "m.room.member" && !isHistoricalUserId(stateKey)) {
    return bad("state_key: expected a user ID for m.room.member")
  }
  if (type === "m.room.aliases" && !isServerName(stateKey)) {
    return bad("state_key: expected a server name for m.room.aliases")
  }
  return undefined
}

/**
 * Undefined if an event of this type may have this content, else M_BAD_JSON, naming the key. `isState`: the event is sent
 * with a state key. Without one, an event of a state type is a message that changes no state, and its content is free.
 */
export const checkEventContent = (type: string, content: unknown, isState: boolean): BadJson | undefined => {
  if (!isJsonObject(content)) return bad("content: expected a JSON object")
  if (ephemeralTypes.has(type)) return bad(`type: ${type} is not an event of a room`)
  const check = isState ? (stateChecks.get(type) ?? eventChecks.get(type)) : eventChecks.get(type)
  return checkCanonical(content) ?? check?.(content)
}

/** Checks type, state key and content of one event. `stateKey` undefined: not a state event. */
export const checkEvent = (type: string, stateKey: string | undefined, content: unknown): BadJson | undefined =>
  checkEventType(type) ??
  (stateKey === undefined ? undefined : checkStateKey(type, stateKey)) ??
  checkEventContent(type, content, stateKey !== undefined)
