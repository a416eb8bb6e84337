/**
 * Authorisation rules as values: a sentence that people read when they are refused, and what must hold.
 */
import type { Refusal } from "../RoomVersion.ts"

/** A rule. */
export interface Rule<Subject> {
  /** The sentence, for people. */
  readonly rule: string
  readonly holds: (subject: Subject) => boolean
  /** True if the rule is about the content alone. */
  readonly ofContent?: boolean
}

/** A rule about an event and the state before it. */
export const rule = <Subject>(text: string, holds: (subject: Subject) => boolean): Rule<Subject> => ({
  rule: text,
  holds
})

/** A rule about the content, independent of the sender. */
export const contentRule = <Subject>(text: string, holds: (subject: Subject) => boolean): Rule<Subject> => ({
  ...rule(text, holds),
  ofContent: true
})

/** The first of the rules that does not hold, or undefined. */
export const firstBroken = <Subject>(rules: ReadonlyArray<Rule<Subject>>, subject: Subject): Refusal | undefined => {
  for (const entry of rules) {
    if (!entry.holds(subject)) return { rule: entry.rule, ...(entry.ofContent ? { ofContent: true } : {}) }
  }
  return undefined
}
