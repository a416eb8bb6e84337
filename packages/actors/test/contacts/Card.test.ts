import { assert, describe, it } from "@effect/vitest"
import { isMatrixError } from "@greenroom/protocol/MatrixError"
import fc from "fast-check"
import {
  addressesOf,
  type Card,
  readJcard,
  readVcard,
  storedAsVcard,
  toStored
} from "../../src/contacts/internal/Card.ts"
import { jcardSplitter, vcardSplitter } from "../../src/contacts/internal/CardSplitter.ts"

/** The card, or undefined if it is refused; anything else thrown fails the test. */
const accepted = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch (error) {
    assert.isTrue(isMatrixError(error), String(error))
    return undefined
  }
}

const stored = (card: Card) => toStored("id", card, addressesOf(card)).card

/** Asserts that an accepted card is the same after it was written and read again, as vCard and as jCard. */
const survives = (card: Card) => {
  const text = stored(card)
  const vcard = storedAsVcard(text)
  assert.strictEqual(vcardSplitter().push(vcard).length, 1, vcard)
  assert.strictEqual(stored(readVcard(vcard)), text)
  assert.strictEqual(stored(readJcard(JSON.parse(text))), text)
}

const names = [
  "fn",
  "n",
  "email",
  "tel",
  "bday",
  "rev",
  "photo",
  "adr",
  "org",
  "note",
  "related",
  "geo",
  "x-a",
  "__proto__"
]
const types = [
  "text",
  "uri",
  "date-and-or-time",
  "timestamp",
  "integer",
  "boolean",
  "unknown",
  "utc-offset",
  "binary",
  "constructor"
]
const oddText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.constantFrom(
    "a\nb",
    "a\\nb",
    "a;b,c\\;",
    "^n^^",
    '"',
    "END:VCARD",
    "\r\n",
    "tel:+1-2;ext=3",
    "data:a/b;base64,AA==",
    "20200101"
  )
)
const value = fc.oneof(
  oddText,
  fc.integer(),
  fc.boolean(),
  fc.array(fc.oneof(oddText, fc.array(oddText, { maxLength: 2 })), { maxLength: 3 }),
  fc.constant(null)
)
const property = fc
  .tuple(
    fc.constantFrom(...names),
    fc.dictionary(
      fc.constantFrom("type", "pref", "group", "x-p", "altid", "value"),
      fc.oneof(oddText, fc.array(oddText, { maxLength: 2 })),
      { maxKeys: 2 }
    ),
    fc.constantFrom(...types),
    fc.array(value, { maxLength: 2 })
  )
  .map(([name, parameters, type, values]) => [name, parameters, type, ...values])

describe("Card", () => {
  it("a jCard is refused, or the same after every export and import", () => {
    fc.assert(
      fc.property(fc.array(property, { maxLength: 5 }), (properties) => {
        const card = accepted(() => readJcard(["vcard", [["fn", {}, "text", "Name"], ...properties]]))
        if (card !== undefined) survives(card)
      }),
      { numRuns: 400 }
    )
  })

  it("a vCard is refused, or the same after every export and import", () => {
    const line = fc.oneof(
      fc.tuple(fc.constantFrom(...names), oddText, oddText).map(([name, a, b]) => `${name.toUpperCase()};X=${a}:${b}`),
      fc.tuple(fc.constantFrom(...names), oddText).map(([name, text]) => `${name.toUpperCase()}:${text}`),
      oddText.map((text) => ` ${text}`)
    )
    fc.assert(
      fc.property(fc.array(line, { maxLength: 5 }), fc.constantFrom("4.0", "3.0"), (lines, version) => {
        const text = ["BEGIN:VCARD", `VERSION:${version}`, "FN:Name", ...lines, "END:VCARD", ""].join("\r\n")
        const cards = accepted(() => {
          const splitter = vcardSplitter()
          return [...splitter.push(text), ...splitter.end()].map(readVcard)
        })
        for (const card of cards ?? []) survives(card)
      }),
      { numRuns: 400 }
    )
  })

  it("cards are cut the same wherever the file is cut", () => {
    const file = JSON.stringify([
      ["vcard", [["fn", {}, "text", 'a "quoted" [text] \\ ü😀']]],
      ["vcard", [["fn", {}, "text", "b"]]]
    ])
    fc.assert(
      fc.property(fc.array(fc.nat(file.length), { maxLength: 8 }), (cuts) => {
        const splitter = jcardSplitter()
        const places = [0, ...cuts.sort((a, b) => a - b), file.length]
        const cards = places.slice(1).flatMap((end, index) => splitter.push(file.slice(places[index], end)))
        splitter.end()
        assert.deepStrictEqual(
          cards.map((card) => JSON.parse(card)),
          JSON.parse(file)
        )
      }),
      { numRuns: 200 }
    )
  })
})
