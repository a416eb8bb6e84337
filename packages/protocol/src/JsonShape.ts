/**
 * Counts the values of a client's JSON text before it is parsed: two bytes such as `[]` become an object of fifty.
 */
import { BadJson, TooLarge } from "./MatrixError.ts"

/** How deep arrays and objects of a request may nest. */
export const maxRequestDepth = 128

/** The most values in a request, those inside of others counted too. An event of 64 KiB has at most half as many. */
export const maxRequestValues = 65_536

/** A text of this length cannot have too many values. Decoding finds its other faults. */
const smallText = 16_384

const quote = 0x22
const comma = 0x2c
const backslash = 0x5c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** The place of the quote that ends the string, or the end of the text. */
const endOfString = (text: string, start: number): number => {
  let at = start
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === quote) return at
    at += code === backslash ? 2 : 1
  }
  return at
}

const tooDeep = new BadJson({ error: `Expected at most ${maxRequestDepth} levels of nesting` })
const tooMany = new TooLarge({ error: `Expected at most ${maxRequestValues} values in the JSON of a request` })

/** The fault in the shape of a text that may be JSON: it nests too deep, or has too many values. */
export const shapeProblem = (text: string): BadJson | TooLarge | undefined => {
  if (text.length <= smallText) return undefined
  let depth = 0
  let values = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote:
        at = endOfString(text, at + 1)
        break
      case openBrace:
      case openBracket:
        if (++depth > maxRequestDepth) return tooDeep
        if (++values > maxRequestValues) return tooMany
        break
      case closeBrace:
      case closeBracket:
        depth--
        break
      case comma:
        if (++values > maxRequestValues) return tooMany
        break
    }
  }
  return undefined
}
