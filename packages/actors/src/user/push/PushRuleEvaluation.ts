/**
 * Evaluates push rules: the rule that an event matches, whether it notifies the user, is highlighted, and with which tweaks.
 *
 * A ruleset is compiled once (`compileRuleset`) and then asked for each event. What is the same for every member, the
 * event and the room around it, is a `PushContext` that is made once per event.
 *
 * Source: "Push Rules" of "Push notifications" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type Glob, type GlobBudget, matchesGlob, matchesWords, parseGlob } from "@greenroom/protocol/Glob"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import type { PushContext } from "../../room/MemberPushRules.ts"
import { type PushAction, type PushRule, type PushRuleKind, type PushRuleset, pushRuleKinds } from "./PushRule.ts"

/** The effect of an event on one user. */
export interface PushOutcome {
  readonly notify: boolean
  readonly highlight: boolean
  readonly actions: ReadonlyArray<PushAction>
}

type Condition = (context: PushContext, displayName: string | undefined, budget: GlobBudget) => boolean

/** The text of a rule's actions is made once. */
interface CompiledOutcome extends PushOutcome {
  readonly text: string
}

interface CompiledRule {
  readonly conditions: ReadonlyArray<Condition>
  readonly outcome: CompiledOutcome
}

/** The rules that are enabled, the most important first. */
export type CompiledRuleset = ReadonlyArray<CompiledRule>

const nothing: CompiledOutcome = { notify: false, highlight: false, actions: [], text: "[]" }

/**
 * How many steps of matching (`Glob.ts`) the rules of one user may take for an event, and those of all users together: users
 * choose their patterns, and others the text. Conditions beyond it do not hold.
 */
const stepsOfUser = 1_000_000
const stepsOfEvent = 20_000_000

/** Results for an event that the rulesets evaluated before have left. */
interface Known {
  /** The results of conditions that do not depend on the user. */
  readonly results: Map<string, boolean>
  /** Texts of the event in lower case, by the key of the property. */
  readonly texts: Map<string, string | undefined>
  /** The steps of all users together. */
  stepsLeft: number
}

const knownOfEvents = new WeakMap<PushContext, Known>()

const knownOf = (context: PushContext): Known => {
  const known = knownOfEvents.get(context)
  if (known !== undefined) return known
  const nothing: Known = { results: new Map(), texts: new Map(), stepsLeft: stepsOfEvent }
  knownOfEvents.set(context, nothing)
  return nothing
}

/** A condition that says the same for all users. Equal conditions have equal keys. */
const once = (key: string, condition: (context: PushContext, budget: GlobBudget) => boolean): Condition => {
  return (context, _, budget) => {
    const { results } = knownOf(context)
    const before = results.get(key)
    if (before !== undefined) return before
    const result = condition(context, budget)
    // The result for a user without steps left is not shared with others.
    if (budget.left >= 0) results.set(key, result)
    return result
  }
}

/** `a.b\.c` as the names of properties. */
export const parsePropertyPath = (path: string): ReadonlyArray<string> => {
  const names = [""]
  for (let i = 0; i < path.length; i++) {
    const character = path[i]!
    const next = path[i + 1]
    if (character === "\\" && (next === "." || next === "\\")) {
      names[names.length - 1] += next
      i++
    } else if (character === ".") names.push("")
    else names[names.length - 1] += character
  }
  return names
}

const propertyOf = (event: Event, names: ReadonlyArray<string>): Json | undefined => {
  let value: unknown = event
  for (const name of names) {
    if (!isJsonObject(value) || !Object.hasOwn(value, name)) return undefined
    value = value[name]
  }
  return value as Json | undefined
}

/** The text of a property in lower case. */
const lowerCaseOf = (context: PushContext, key: string, names: ReadonlyArray<string>): string | undefined => {
  const { texts } = knownOf(context)
  if (texts.has(key)) return texts.get(key)
  const value = propertyOf(context.event, names)
  const text = typeof value === "string" ? value.toLowerCase() : undefined
  texts.set(key, text)
  return text
}

const never: Condition = () => false

const isScalar = (value: Json | undefined): boolean =>
  value === null || typeof value === "string" || typeof value === "boolean" || Number.isSafeInteger(value)

const eventMatch = (key: string, pattern: string): Condition => {
  const names = parsePropertyPath(key)
  const glob: Glob = parseGlob(pattern, { ignoreCase: true })
  const matches = key === "content.body" ? matchesWords : matchesGlob
  return once(JSON.stringify(["match", key, pattern]), (context, budget) => {
    const text = lowerCaseOf(context, key, names)
    return text !== undefined && matches(text, glob, budget)
  })
}

const propertyIs = (key: string, wanted: Json): Condition => {
  const names = parsePropertyPath(key)
  return once(JSON.stringify(["is", key, wanted]), ({ event }) => propertyOf(event, names) === wanted)
}

const propertyContains = (key: string, wanted: Json): Condition => {
  const names = parsePropertyPath(key)
  return once(JSON.stringify(["contains", key, wanted]), ({ event }) => {
    const value = propertyOf(event, names)
    return Array.isArray(value) && value.includes(wanted)
  })
}

const bodyPath = ["content", "body"]

const containsDisplayName: Condition = (context, displayName, budget) => {
  if (displayName === undefined || displayName === "") return false
  const body = lowerCaseOf(context, "content.body", bodyPath)
  return body !== undefined && matchesWords(body, [displayName.toLowerCase()], budget)
}

const comparisons: { readonly [prefix: string]: (count: number, than: number) => boolean } = {
  "": (count, than) => count === than,
  "==": (count, than) => count === than,
  "<": (count, than) => count < than,
  ">": (count, than) => count > than,
  "<=": (count, than) => count <= than,
  ">=": (count, than) => count >= than
}

const memberCount = (text: string): Condition => {
  const [, prefix = "", number] = /^(==|<=|>=|<|>)?([0-9]{1,15})$/.exec(text) ?? []
  const compare = comparisons[prefix]
  return number === undefined || compare === undefined
    ? never
    : (context) => compare(context.memberCount, Number(number))
}

/** A condition of an unknown kind, or of another form, matches nothing. */
const compileCondition = ({ is, key, kind, pattern, value }: JsonObject): Condition => {
  if (kind === "contains_display_name") return containsDisplayName
  if (kind === "room_member_count") return typeof is === "string" ? memberCount(is) : never
  if (typeof key !== "string") return never
  switch (kind) {
    case "event_match":
      return typeof pattern === "string" ? eventMatch(key, pattern) : never
    case "event_property_is":
      return isScalar(value) ? propertyIs(key, value as Json) : never
    case "event_property_contains":
      return isScalar(value) ? propertyContains(key, value as Json) : never
    case "sender_notification_permission":
      return once(JSON.stringify(["may", key]), ({ mayNotify }) => mayNotify(key))
    default:
      return never
  }
}

const conditionsOf = (kind: PushRuleKind, rule: PushRule): ReadonlyArray<Condition> => {
  switch (kind) {
    case "override":
    case "underride":
      return (rule.conditions ?? []).map(compileCondition)
    case "content":
      return [eventMatch("content.body", rule.pattern ?? "")]
    case "room":
      return [({ event }) => event.room_id === rule.rule_id]
    case "sender":
      return [({ event }) => event.sender === rule.rule_id]
  }
}

const isHighlight = (action: PushAction): boolean =>
  typeof action === "object" && action.set_tweak === "highlight" && action.value !== false

/** `dont_notify` and `coalesce` are actions of former versions, and do nothing. */
const outcomeOf = (given: ReadonlyArray<PushAction>): CompiledOutcome => {
  const actions = given.filter((action) => action !== "dont_notify" && action !== "coalesce")
  const notify = actions.includes("notify")
  return { notify, highlight: notify && actions.some(isHighlight), actions, text: JSON.stringify(actions) }
}

/** Compiles a ruleset for the evaluation of many events. */
export const compileRuleset = (ruleset: PushRuleset): CompiledRuleset =>
  pushRuleKinds.flatMap((kind) =>
    ruleset[kind]
      .filter((rule) => rule.enabled)
      .map((rule) => ({ conditions: conditionsOf(kind, rule), outcome: outcomeOf(rule.actions) }))
  )

/**
 * The effect of an event on the owner of the rules, who did not send it. `displayName` is the owner's in the room. The first
 * rule that matches decides; without a match the event does not notify.
 */
export const evaluate = (rules: CompiledRuleset, context: PushContext, displayName?: string): CompiledOutcome => {
  const known = knownOf(context)
  const steps = Math.min(stepsOfUser, known.stepsLeft)
  const budget: GlobBudget = { left: steps }
  const found = rules.find(({ conditions }) => conditions.every((holds) => holds(context, displayName, budget)))
  known.stepsLeft -= steps - budget.left
  return found?.outcome ?? nothing
}
