/**
 * Glob-style patterns: `*` matches any number of characters, `?` exactly one: a code point of Unicode. Matching takes time in proportion to the
 * length of the text times that of the pattern, whatever the pattern is: others choose both. Where many patterns meet a long
 * text, a budget bounds the work.
 *
 * Source: "Glob-style matching" of the appendices of the specification.
 */

/** A pattern, cut at its asterisks. */
export type Glob = ReadonlyArray<string>

/** How many steps of matching may follow: about one for each character that is compared. A match that needs more fails. */
export interface GlobBudget {
  left: number
}

const unbounded = (): GlobBudget => ({ left: Number.POSITIVE_INFINITY })

/** `indexOf` compares about so many characters in the time of a step. */
const charactersPerStep = 16

/** Reads a pattern. `ignoreCase` compares in lower case: lower the text too. */
export const parseGlob = (pattern: string, options: { readonly ignoreCase?: boolean } = {}): Glob =>
  (options.ignoreCase ? pattern.toLowerCase() : pattern).split(/\*+/)

/** Whether a character beyond U+FFFF, which takes two units, begins at the index. */
const isPair = (text: string, index: number): boolean => (text.codePointAt(index) ?? 0) > 0xffff

/** The index after the segment where it occurs at an index; -1 where it does not. */
const endAt = (text: string, segment: string, at: number, budget: GlobBudget): number => {
  if (at + segment.length > text.length) return -1
  if (!segment.includes("?")) return text.startsWith(segment, at) ? at + segment.length : -1
  let end = at
  for (let i = 0; i < segment.length; i++) {
    const isAny = segment[i] === "?"
    if (end >= text.length || !(isAny || segment[i] === text[end])) {
      budget.left -= i + 1
      return -1
    }
    end += isAny && isPair(text, end) ? 2 : 1
  }
  budget.left -= segment.length
  return end
}

/** The index after a segment that occurs at an index. */
const endOf = (text: string, segment: string, at: number, budget: GlobBudget): number =>
  segment.includes("?") ? endAt(text, segment, at, budget) : at + segment.length

/** The index of the first occurrence of the segment, at `from` or later; -1 for none. */
const find = (text: string, segment: string, from: number, budget: GlobBudget): number => {
  if (!segment.includes("?")) {
    const at = text.indexOf(segment, from)
    budget.left -= 1 + ((at === -1 ? text.length : at) - from) / charactersPerStep
    return budget.left < 0 ? -1 : at
  }
  for (let at = from; at + segment.length <= text.length && budget.left >= 0; at += isPair(text, at) ? 2 : 1) {
    if (endAt(text, segment, at, budget) !== -1) return at
  }
  return -1
}

/** The index after the middle segments, each at its first occurrence; -1 if one does not occur. */
const afterMiddle = (text: string, glob: Glob, from: number, budget: GlobBudget): number => {
  let position = from
  for (let i = 1; i < glob.length - 1; i++) {
    const at = find(text, glob[i]!, position, budget)
    if (at === -1) return -1
    position = endOf(text, glob[i]!, at, budget)
  }
  return position
}

/** Whether the text ends with the segment, at `from` or later. */
const endsWith = (text: string, segment: string, from: number, budget: GlobBudget): boolean => {
  const latest = text.length - segment.length
  if (!segment.includes("?")) return latest >= from && text.endsWith(segment)
  const earliest = Math.max(from, latest - segment.length)
  for (let at = latest; at >= earliest && budget.left >= 0; at--) {
    if (!isPair(text, at - 1) && endAt(text, segment, at, budget) === text.length) return true
  }
  return false
}

/** Whether the pattern matches the text as a whole. */
export const matchesGlob = (text: string, glob: Glob, budget: GlobBudget = unbounded()): boolean => {
  const begun = endAt(text, glob[0]!, 0, budget)
  if (begun === -1 || glob.length === 1) return begun === text.length
  const position = afterMiddle(text, glob, begun, budget)
  return position !== -1 && endsWith(text, glob[glob.length - 1]!, position, budget)
}

const isWordCharacter = (text: string, index: number): boolean => {
  const code = text.charCodeAt(index)
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122) || code === 95
}

/** Whether a word may begin or end between the characters before and at `index`. */
const isBoundary = (text: string, index: number): boolean =>
  index === 0 || index === text.length || !isWordCharacter(text, index - 1) || !isWordCharacter(text, index)

/** The index of the first occurrence of the segment after a boundary; -1 for none. */
const findAtBoundary = (text: string, segment: string, from: number, budget: GlobBudget): number => {
  for (let at = find(text, segment, from, budget); at !== -1; at = find(text, segment, at + 1, budget)) {
    if (isBoundary(text, at)) return at
  }
  return -1
}

/** Whether the pattern matches a part of the text that begins and ends at a word boundary. */
export const matchesWords = (text: string, glob: Glob, budget: GlobBudget = unbounded()): boolean => {
  const first = glob[0]!
  if (glob.length === 1) {
    for (let at = findAtBoundary(text, first, 0, budget); at !== -1; at = findAtBoundary(text, first, at + 1, budget)) {
      if (isBoundary(text, endOf(text, first, at, budget))) return true
      if (at >= text.length) return false
    }
    return false
  }
  const start = findAtBoundary(text, first, 0, budget)
  if (start === -1) return false
  const last = glob[glob.length - 1]!
  let at = afterMiddle(text, glob, endOf(text, first, start, budget), budget)
  if (at === -1) return false
  for (at = find(text, last, at, budget); at !== -1 && at <= text.length; at = find(text, last, at + 1, budget)) {
    if (isBoundary(text, endOf(text, last, at, budget))) return true
    if (at >= text.length) return false
  }
  return false
}
