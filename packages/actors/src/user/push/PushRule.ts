/**
 * A push rule as clients read and write it.
 *
 * Source: "Push notifications" of the client-server specification.
 */
import type { JsonObject } from "@greenroom/protocol/Json"

/** The kinds of rules, in the order in which they are checked. */
export const pushRuleKinds = ["override", "content", "room", "sender", "underride"] as const
/** The kinds of push rules, in the order in which they are evaluated. */
export type PushRuleKind = (typeof pushRuleKinds)[number]
/** True for a kind of push rules. */
export const isPushRuleKind = (kind: string): kind is PushRuleKind => pushRuleKinds.some((known) => known === kind)

/** `notify`, or a tweak such as `{"set_tweak": "sound", "value": "default"}`. */
export type PushAction = string | JsonObject

/** A push rule as clients read it. */
export interface PushRule {
  readonly rule_id: string
  readonly default: boolean
  readonly enabled: boolean
  readonly actions: ReadonlyArray<PushAction>
  /** The conditions of override and underride rules: all must hold. */
  readonly conditions?: ReadonlyArray<JsonObject>
  /** The glob of content rules. */
  readonly pattern?: string
}

/** All rules of a user, those of each kind with the most important first. */
export type PushRuleset = { readonly [kind in PushRuleKind]: ReadonlyArray<PushRule> }
