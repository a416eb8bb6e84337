/**
 * Cuts what arrives into cards, one at a time, without knowing more of them than where each ends: a vCard between its BEGIN and
 * END, a jCard between its brackets. So an import of any size needs the memory of one card, and a card that is too large or
 * too deep, or a file that breaks off, is refused before it is parsed.
 */
import { InvalidParam, type MatrixError, TooLarge } from "@greenroom/protocol/MatrixError"

/** The largest card, in characters as it arrives. */
export const maxCardLength = 512 * 1024

/** How deep the arrays of a jCard nest: the card, its properties, a property, a structured value, its components. */
const maxDepth = 6

const wrong = (error: string) => new InvalidParam({ error })

export const cardTooLarge = (what: string): MatrixError =>
  new TooLarge({ error: `${what} is larger than ${maxCardLength} bytes` })

export interface CardSplitter {
  /** The cards that are complete with this text. Throws a `MatrixError`. */
  readonly push: (text: string) => ReadonlyArray<string>
  /** Throws a `MatrixError` if the last card is not complete. */
  readonly end: () => ReadonlyArray<string>
}

const begin = /^BEGIN:VCARD[ \t]*$/i
const end = /^END:VCARD[ \t]*$/i

/** Splits the content of `text/vcard`. */
export const vcardSplitter = (): CardSplitter => {
  let rest = ""
  let lines: Array<string> = []
  let length = 0
  let line = 0
  let number = 0

  const take = (text: string): string | undefined => {
    line += 1
    if (length === 0) {
      if (text.trim() === "") return undefined
      if (!begin.test(text)) throw wrong(`Line ${line}: expected BEGIN:VCARD`)
      number += 1
    } else if (begin.test(text)) {
      throw wrong(`Line ${line}: card ${number} has no END:VCARD`)
    }
    length += text.length + 2
    if (length > maxCardLength) throw cardTooLarge(`Card ${number}`)
    lines.push(text)
    if (!end.test(text)) return undefined
    const card = `${lines.join("\r\n")}\r\n`
    lines = []
    length = 0
    return card
  }

  // Text without an end of line is only buffered: the many small pieces of a long line must not be scanned again and again.
  const push = (text: string): ReadonlyArray<string> => {
    const whole = rest + text
    if (whole.length > maxCardLength && !text.includes("\n")) throw cardTooLarge(`Card ${number}`)
    if (!text.includes("\n")) {
      rest = whole
      return []
    }
    const parts = whole.split("\n")
    rest = parts.pop() ?? ""
    return parts.map((part) => take(part.replaceAll("\r", ""))).filter((card) => card !== undefined)
  }

  return {
    push,
    end: () => {
      const cards = push("\n")
      if (length > 0) throw wrong(`Card ${number} has no END:VCARD: the file is not whole`)
      return cards
    }
  }
}

const blank = /[ \t\r\n]/

/** Splits the content of `application/vcard+json`: one jCard, or an array of them. */
export const jcardSplitter = (): CardSplitter => {
  let state: "start" | "first" | "card" | "after" | "next" | "done" = "start"
  let pieces: Array<string> = []
  let length = 0
  let depth = 0
  let single = false
  let inString = false
  let escaped = false
  let number = 0

  const begin = (piece: string): void => {
    state = "card"
    number += 1
    depth = single ? 1 : 0
    pieces = single ? [piece] : []
    length = 0
  }

  /** A character of a card; true if it is the last. */
  const endsCard = (character: string): boolean => {
    length += 1
    if (length > maxCardLength) throw cardTooLarge(`Card ${number}`)
    if (inString) {
      if (escaped) escaped = false
      else if (character === "\\") escaped = true
      else if (character === '"') inString = false
      return false
    }
    if (character === '"') inString = true
    else if (character === "[" || character === "{") {
      depth += 1
      if (depth > maxDepth) throw wrong(`Card ${number}: nests more than ${maxDepth} levels`)
    } else if (character === "]" || character === "}") depth -= 1
    return depth <= 0
  }

  /** A character between cards; true if it is the first of a card. */
  const beginsCard = (character: string): boolean => {
    if (blank.test(character)) return false
    if (state === "start" && character === "[") state = "first"
    else if (state === "start") throw wrong("Expected a jCard, or an array of jCards")
    else if (state === "done") throw wrong("Expected nothing after the last card")
    else if (state === "after" && character === ",") state = "next"
    else if (state !== "next" && character === "]") state = "done"
    else if (state !== "after" && (character === "[" || (state === "first" && character === '"'))) {
      single = character === '"'
      begin("[")
      return true
    } else throw wrong(`After card ${number}: expected a jCard, which begins with [`)
    return false
  }

  const push = (text: string): ReadonlyArray<string> => {
    const cards: Array<string> = []
    let from = 0
    for (let at = 0; at < text.length; at += 1) {
      const character = text[at] as string
      if (state !== "card") {
        if (!beginsCard(character)) continue
        from = at
      }
      if (!endsCard(character)) continue
      cards.push(pieces.join("") + text.slice(from, at + 1))
      state = single ? "done" : "after"
    }
    if (state === "card") pieces.push(text.slice(from))
    return cards
  }

  return {
    push,
    end: () => {
      if (state !== "done") throw wrong(`Card ${Math.max(1, number)} is not whole: the file breaks off`)
      return []
    }
  }
}
