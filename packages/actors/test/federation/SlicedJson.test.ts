import { assert, describe, it } from "@effect/vitest"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { encodeOrThrow } from "@greenroom/room/CanonicalJson"
import { Effect } from "effect"
import fc from "fast-check"
import { maxEntries, maxValues } from "../../src/federation/internal/ListReader.ts"
import { encodeCanonicalJson, encodeJson, parseJson, smallBytes } from "../../src/federation/SlicedJson.ts"

/** Enough space before a body that it is not read at once. */
const padding = " ".repeat(smallBytes)

const parseSliced = (text: string) => parseJson(Buffer.from(padding + text))

/** The replacements for a character of valid JSON. */
const noises = ["", ",", "]", "}", "[", "{", '"', ":", "\\", "1"]

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe("SlicedJson", () => {
  it("a large body is read as JSON.parse reads it", () =>
    fc.assert(
      fc.asyncProperty(fc.json(), async (text) => {
        assert.deepStrictEqual(await Effect.runPromise(parseSliced(`${text} `)), JSON.parse(text))
      })
    ))

  it("a large body that JSON.parse refuses is refused", () =>
    fc.assert(
      fc.asyncProperty(fc.json(), fc.nat(), fc.constantFrom(...noises), async (text, at, noise) => {
        const place = at % (text.length + 1)
        const damaged = `{"a":[${text.slice(0, place)}${noise}${text.slice(place + 1)}],"b":1}`
        const exit = await Effect.runPromiseExit(parseSliced(damaged))
        assert.strictEqual(exit._tag, isJson(damaged) ? "Success" : "Failure", damaged)
      }),
      { numRuns: 300 }
    ))

  it("a body that is not UTF-8 is refused, large or small", async () => {
    for (const length of [0, smallBytes]) {
      const body = Buffer.concat([Buffer.alloc(length, " "), Buffer.from('{"a":"'), Buffer.of(0xff), Buffer.from('"}')])
      assert.strictEqual((await Effect.runPromise(Effect.flip(parseJson(body)))).reason, "it is not UTF-8")
    }
  })

  it("writing entry by entry gives the same text as writing at once", () =>
    fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string({ unit: "grapheme" }), fc.array(fc.jsonValue())), async (object) => {
        const plain = JSON.parse(JSON.stringify(object)) as JsonObject
        assert.strictEqual((await Effect.runPromise(encodeJson(plain))).toString(), JSON.stringify(plain))
      })
    ))

  it.effect("canonical JSON is the same in slices", () =>
    Effect.gen(function* () {
      const object = { "\u{10000}": [1, { b: 1, a: [] }], "\uffff": {}, z: [], a: null, edus: [[]] }
      assert.strictEqual((yield* encodeCanonicalJson(object)).toString(), encodeOrThrow(object))
      assert.strictEqual((yield* encodeCanonicalJson({})).toString(), "{}")
      assert.strictEqual((yield* encodeCanonicalJson({ a: [1.5] })).toString(), '{"a":[1.5]}')
      assert.strictEqual((yield* Effect.exit(encodeCanonicalJson({ a: ["\ud800"] })))._tag, "Failure")
    })
  )

  it.effect("a single value that takes long to parse is refused, the same bytes in many entries are not", () =>
    Effect.gen(function* () {
      const long = yield* Effect.flip(parseJson(Buffer.from(`{"pdus":["${"x".repeat(3_000_000)}"]}`)))
      assert.isTrue(long.isTooLong)
      const many = { pdus: Array.from({ length: 3_000 }, () => ({ text: "x".repeat(1_000) })) }
      assert.deepStrictEqual(yield* parseJson(Buffer.from(JSON.stringify(many))), many)
    })
  )

  it.effect("a body of very many or very deep values is refused before it is parsed", () =>
    Effect.gen(function* () {
      const bodies = [
        `{"state":[${"{},".repeat(maxEntries)}{}]}`,
        `{${Array.from({ length: maxEntries + 1 }, (_, index) => `"k${index}":1`).join(",")}}`,
        `{"state":[${`[${"[],".repeat(100_000)}[]],`.repeat(maxValues / 100_000)}0]}`,
        `{"state":{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}}`,
        `{"state":${"[".repeat(100_000)}`
      ]
      for (const body of bodies) {
        const error = yield* Effect.flip(parseSliced(body))
        assert.isTrue(error.isTooLong || body.length < 200_000, error.reason)
      }
      assert.isTrue(isJsonObject(yield* parseSliced(`{"state":[${"{},".repeat(maxEntries - 2)}{}]}`)))
    })
  )

  it.effect("an entry of a list that nests too deep is null beside the others, and other deep values are refused", () =>
    Effect.gen(function* () {
      for (const levels of [1_000, 100_000]) {
        const deep = `${"[".repeat(levels)}${"]".repeat(levels)}`
        const pdus = `{"pdus":[{"a":1},{"content":${deep}},${deep},[[1]],"[[[",2]}`
        assert.deepStrictEqual(yield* parseJson(Buffer.from(pdus)), { pdus: [{ a: 1 }, null, null, [[1]], "[[[", 2] })
        for (const body of [`{"room":{"content":${deep}}}`, `[200,{"room":${deep}}]`, deep]) {
          const { reason } = yield* Effect.flip(parseJson(Buffer.from(body)))
          assert.match(reason, /nests deeper/)
        }
      }
      const wide = { room: Array.from({ length: 400 }, () => [{}]) }
      assert.deepStrictEqual(yield* parseJson(Buffer.from(JSON.stringify(wide))), wide)
    })
  )

  it.live("a body of 20 MB is read in several turns of the event loop", () =>
    Effect.gen(function* () {
      const body = Buffer.from(JSON.stringify({ pdus: Array.from({ length: 20_000 }, () => "x".repeat(1_000)) }))
      let turns = 0
      const count = () => {
        turns++
        timer = setImmediate(count)
      }
      let timer = setImmediate(count)
      yield* parseJson(body)
      clearImmediate(timer)
      assert.isAbove(turns, 3)
    })
  )
})
