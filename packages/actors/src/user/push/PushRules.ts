/**
 * Push rules: which events notify a user, and how. A user's ruleset is the server-default rules with what the user
 * changed on them, and the rules that the user made. Only the changes are stored (`PushRuleSettings`).
 *
 * Pure: `PushRuleEvaluation` matches events, `PushRules` services store the settings.
 *
 * Source: "Push notifications" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadRequest,
  InvalidParam,
  type MatrixError,
  NotFound,
  UserLimitExceeded
} from "@greenroom/protocol/MatrixError"
import { Result } from "effect"
import { defaultRules } from "./DefaultPushRules.ts"
import { type PushAction, type PushRule, type PushRuleKind, type PushRuleset, pushRuleKinds } from "./PushRule.ts"
import { wrongActions, wrongConditions } from "./PushRuleChecks.ts"

/** A user's changes of the default rules. */
export interface PushRuleSettings {
  /** The rules that the user made, those of each kind with the most important first. */
  readonly own: { readonly [kind in PushRuleKind]?: ReadonlyArray<Omit<PushRule, "default">> }
  /** Changes of server-default rules by rule ID. */
  readonly defaults: {
    readonly [ruleId: string]: { readonly enabled?: boolean; readonly actions?: ReadonlyArray<PushAction> }
  }
}

/** The settings of a user who has changed nothing. */
export const noSettings: PushRuleSettings = { own: {}, defaults: {} }

/** The most rules that a user may make, of all kinds together. */
export const maxPushRules = 1_000
/** How long the changes of a user may be, all rules together, as JSON: clients get them whole with each change. */
export const maxPushRuleText = 512 * 1024

/** The ruleset as clients and the evaluation read it. The master rule comes before the user's own override rules. */
export const rulesetOf = (settings: PushRuleSettings, userId: UserId): PushRuleset => {
  const defaults = defaultRules(userId)
  const changed = (rule: PushRule): PushRule => ({ ...rule, ...settings.defaults[rule.rule_id] })
  const own = (kind: PushRuleKind) => (settings.own[kind] ?? []).map((rule): PushRule => ({ ...rule, default: false }))
  const [master, ...overrides] = defaults.override.map(changed)
  return {
    override: [master!, ...own("override"), ...overrides],
    content: [...own("content"), ...defaults.content.map(changed)],
    room: own("room"),
    sender: own("sender"),
    underride: [...own("underride"), ...defaults.underride.map(changed)]
  }
}

/** The client's definition of a new rule. */
export interface NewPushRule {
  readonly actions: ReadonlyArray<PushAction>
  readonly conditions?: ReadonlyArray<JsonObject> | undefined
  readonly pattern?: string | undefined
  /** The ID of the own rule that this one comes right before. */
  readonly before?: string | undefined
  /** The ID of the own rule that this one comes right after. */
  readonly after?: string | undefined
}

const notFound = new NotFound({ error: "There is no such push rule" })

type Settings = Result.Result<PushRuleSettings, MatrixError>

const ownRules = (settings: PushRuleSettings, kind: PushRuleKind) => settings.own[kind] ?? []

const withOwn = (
  settings: PushRuleSettings,
  kind: PushRuleKind,
  rules: ReadonlyArray<Omit<PushRule, "default">>
): PushRuleSettings => ({ ...settings, own: { ...settings.own, [kind]: rules } })

const countOf = (settings: PushRuleSettings): number =>
  pushRuleKinds.reduce((count, kind) => count + ownRules(settings, kind).length, 0)

const isDefault = (kind: PushRuleKind, ruleId: string, userId: UserId): boolean =>
  defaultRules(userId)[kind].some((rule) => rule.rule_id === ruleId)

/** The index of a rule among the others of its kind: first, or where `before` or `after` says. */
const insertionIndex = (
  others: ReadonlyArray<Omit<PushRule, "default">>,
  { after, before }: NewPushRule
): Result.Result<number | undefined, MatrixError> => {
  const anchor = before ?? after
  if (anchor === undefined) return Result.succeed(undefined)
  const index = others.findIndex((rule) => rule.rule_id === anchor)
  return index === -1
    ? Result.fail(new BadRequest({ error: `before/after: there is no rule ${anchor} of this kind that you made` }))
    : Result.succeed(before === undefined ? index + 1 : index)
}

const checkNewRule = (kind: PushRuleKind, ruleId: string, rule: NewPushRule): MatrixError | undefined => {
  if (ruleId.startsWith(".")) return new InvalidParam({ error: "ruleId: must not begin with a dot" })
  if (/[/\\]/.test(ruleId)) return new InvalidParam({ error: "ruleId: must not contain a slash or a backslash" })
  if (kind === "content" && rule.pattern === undefined) return new BadRequest({ error: "pattern: missing key" })
  return wrongActions(rule.actions) ?? wrongConditions(rule.conditions ?? [])
}

/** Makes a rule, or replaces the one of this ID in its place. A new rule is the most important one of its kind. */
export const putRule = (
  settings: PushRuleSettings,
  kind: PushRuleKind,
  ruleId: string,
  rule: NewPushRule
): Settings => {
  const wrong = checkNewRule(kind, ruleId, rule)
  if (wrong !== undefined) return Result.fail(wrong)
  const rules = ownRules(settings, kind)
  const known = rules.findIndex((other) => other.rule_id === ruleId)
  if (known === -1 && countOf(settings) >= maxPushRules) {
    return Result.fail(new UserLimitExceeded({ error: `A user has at most ${maxPushRules} push rules` }))
  }
  const others = rules.filter((other) => other.rule_id !== ruleId)
  return Result.map(insertionIndex(others, rule), (index = Math.max(known, 0)) => {
    const hasConditions = kind === "override" || kind === "underride"
    const made = {
      rule_id: ruleId,
      enabled: known === -1 || rules[known]!.enabled,
      actions: rule.actions,
      ...(hasConditions ? { conditions: rule.conditions ?? [] } : {}),
      ...(kind === "content" ? { pattern: rule.pattern ?? "" } : {})
    }
    return withOwn(settings, kind, others.toSpliced(index, 0, made))
  })
}

/** Errors: M_NOT_FOUND; M_INVALID_PARAM for a server-default rule. */
export const deleteRule = (settings: PushRuleSettings, kind: PushRuleKind, ruleId: string): Settings => {
  if (ruleId.startsWith(".")) return Result.fail(new InvalidParam({ error: "A server-default rule cannot be deleted" }))
  const rules = ownRules(settings, kind)
  const left = rules.filter((rule) => rule.rule_id !== ruleId)
  return left.length === rules.length ? Result.fail(notFound) : Result.succeed(withOwn(settings, kind, left))
}

/** Turns a rule on or off, or gives it other actions; server-default rules too. Errors: M_NOT_FOUND, M_UNKNOWN. */
export const changeRule = (
  settings: PushRuleSettings,
  userId: UserId,
  kind: PushRuleKind,
  ruleId: string,
  change: { readonly enabled?: boolean; readonly actions?: ReadonlyArray<PushAction> }
): Settings => {
  const wrong = wrongActions(change.actions ?? [])
  if (wrong !== undefined) return Result.fail(wrong)
  if (isDefault(kind, ruleId, userId)) {
    const former = settings.defaults[ruleId]
    return Result.succeed({ ...settings, defaults: { ...settings.defaults, [ruleId]: { ...former, ...change } } })
  }
  const rules = ownRules(settings, kind)
  if (!rules.some((rule) => rule.rule_id === ruleId)) return Result.fail(notFound)
  return Result.succeed(
    withOwn(
      settings,
      kind,
      rules.map((rule) => (rule.rule_id === ruleId ? { ...rule, ...change } : rule))
    )
  )
}
