import { assert, describe, it } from "@effect/vitest"
import type { Json } from "@greenroom/protocol/Json"
import fc from "fast-check"
import { type ListEntry, ListReader, maxEntryBytes } from "../../src/federation/internal/ListReader.ts"

const lists = new Set(["state", "auth_chain"])

/** Reads the bytes in pieces of these sizes, again and again. */
const readIn = (bytes: Buffer, sizes: ReadonlyArray<number>) => {
  const reader = new ListReader(lists, JSON.parse, 1)
  const entries: Array<ListEntry> = []
  for (let at = 0, piece = 0; at < bytes.length; piece++) {
    const end = at + sizes[piece % sizes.length]!
    reader.push(bytes.subarray(at, end))
    entries.push(...reader.take())
    at = end
  }
  const object = reader.end()
  return { object, entries: [...entries, ...reader.take()] }
}

const sizes = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 })
const key = fc.oneof(fc.constantFrom("state", "auth_chain", "event", "__proto__"), fc.string({ unit: "grapheme" }))
const objects = fc.array(fc.tuple(key, fc.oneof(fc.jsonValue(), fc.array(fc.jsonValue()))))

const textOf = (members: ReadonlyArray<readonly [string, Json]>, space: string): string =>
  `{${members.map(([key, value]) => `${space}${JSON.stringify(key)}${space}:${space}${JSON.stringify(value)}`).join(`${space},`)}${space}}`

const isObject = (text: string): boolean => {
  try {
    const value = JSON.parse(text)
    return typeof value === "object" && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}

describe("ListReader", () => {
  it("an object in any pieces is read as JSON.parse reads it, and the entries of its lists come one by one", () =>
    fc.assert(
      fc.property(objects, sizes, fc.constantFrom("", " ", "\n\t"), (given, sizes, space) => {
        const members = [...new Map(given)] as ReadonlyArray<readonly [string, Json]>
        const text = textOf(members, space)
        const { entries, object } = readIn(Buffer.from(text), sizes)
        const isList = ([key, value]: readonly [string, Json]) => lists.has(key) && Array.isArray(value)
        const found = members.map((member): readonly [string, Json] =>
          isList(member)
            ? [member[0], entries.filter(({ list }) => list === member[0]).map(({ value }) => value)]
            : member
        )
        assert.deepStrictEqual(JSON.stringify(Object.fromEntries(found)), JSON.stringify(JSON.parse(text)))
        for (const [key, value] of members) {
          const own = Object.getOwnPropertyDescriptor(object, key)?.value
          assert.strictEqual(JSON.stringify(own), JSON.stringify(isList([key, value]) ? [] : value))
        }
      })
    ))

  it("input that JSON.parse refuses is refused", () =>
    fc.assert(
      fc.property(
        objects,
        sizes,
        fc.nat(),
        fc.constantFrom("", ",", "]", "}", "[", "{", '"', ":", "\\", "1"),
        (given, sizes, at, noise) => {
          const text = textOf([...new Map(given)] as ReadonlyArray<readonly [string, Json]>, "")
          const place = at % (text.length + 1)
          const damaged = `${text.slice(0, place)}${noise}${text.slice(place + 1)}`.toWellFormed()
          if (isObject(damaged)) readIn(Buffer.from(damaged), sizes)
          else assert.throws(() => readIn(Buffer.from(damaged), sizes), undefined, undefined, damaged)
        }
      ),
      { numRuns: 500 }
    ))

  it("a single value that is too long is refused before it has arrived", () => {
    const reader = new ListReader(lists, JSON.parse)
    reader.push(Buffer.from('{"state":["'))
    assert.throws(() => {
      for (let bytes = 0; bytes < 2 * maxEntryBytes; bytes += 64 * 1024) reader.push(Buffer.alloc(64 * 1024, "x"))
    })
  })
})
