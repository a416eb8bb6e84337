/**
 * Glob-style patterns: `*` matches any number of characters, `?` exactly one. Matching takes time in proportion to the
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

const matchesAt = (text: string, segment: string, at: number, budget: GlobBudget): boolean => {
  if (at < 0 || at + segment.length > text.length) return false
  if (!segment.includes("?")) return text.startsWith(segment, at)
  for (let i = 0; i < segment.length; i++) {
    if (segment[i] !== "?" && segment[i] !== text[at + i]) {
      budget.left -= i + 1
      return false
    }
  }
  budget.left -= segment.length
  return true
}

/** The index of the first occurrence of the segment, at `from` or later; -1 for none. */
const find = (text: string, segment: string, from: number, budget: GlobBudget): number => {
  if (!segment.includes("?")) {
    const at = text.indexOf(segment, from)
    budget.left -= 1 + ((at === -1 ? text.length : at) - from) / charactersPerStep
    return budget.left < 0 ? -1 : at
  }
  for (let at = from; at + segment.length <= text.length && budget.left >= 0; at++) {
    if (matchesAt(text, segment, at, budget)) return at
  }
  return -1
}

/** The index after the middle segments, each at its first occurrence; -1 if one does not occur. */
const afterMiddle = (text: string, glob: Glob, from: number, budget: GlobBudget): number => {
  let position = from
  for (let i = 1; i < glob.length - 1; i++) {
    const at = find(text, glob[i]!, position, budget)
    if (at === -1) return -1
    position = at + glob[i]!.length
  }
  return position
}

/** Whether the pattern matches the text as a whole. */
export const matchesGlob = (text: string, glob: Glob, budget: GlobBudget = unbounded()): boolean => {
  const first = glob[0]!
  if (!matchesAt(text, first, 0, budget)) return false
  if (glob.length === 1) return text.length === first.length
  const last = glob[glob.length - 1]!
  const position = afterMiddle(text, glob, first.length, budget)
  const end = text.length - last.length
  return position !== -1 && end >= position && matchesAt(text, last, end, budget)
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
      if (isBoundary(text, at + first.length)) return true
      if (at >= text.length) return false
    }
    return false
  }
  const start = findAtBoundary(text, first, 0, budget)
  if (start === -1) return false
  const last = glob[glob.length - 1]!
  let at = afterMiddle(text, glob, start + first.length, budget)
  if (at === -1) return false
  for (at = find(text, last, at, budget); at !== -1 && at <= text.length; at = find(text, last, at + 1, budget)) {
    if (isBoundary(text, at + last.length)) return true
    if (at >= text.length) return false
  }
  return false
}
