/**
 * A WebAssembly program that adds points of the curve of Ed25519, two at a time: one in each lane of its vectors. Its first user is
 * `SignatureChecker`. It is made here instruction by instruction, because a formula is a loop over the limbs of numbers.
 *
 * Numbers are modulo p = 2^255 - 19, as ten limbs of 26 and 25 bits by turns (limb i has the weight 2^ceil(25.5 i)), each limb a
 * vector. Nothing depends on secrets: the program is for verifying.
 *
 * Bounds: `multiply` takes a first factor whose limbs are below 4 times, and a second one whose limbs are below 3 times, of what it returns.
 *
 * Source: RFC 8032, section 5.1; the formulas of "Twisted Edwards Curves Revisited" (Hisil and others), section 3.1.
 */

/** Bytes of a number, of an entry of a table, and of the memory that the functions use for themselves. */
export const numberBytes = 160
export const entryBytes = 120
export const reservedBytes = 16 + 11 * numberBytes

const limbs: ReadonlyArray<number> = Array.from({ length: 10 }, (_, limb) => limb)
const isOdd = (limb: number): boolean => limb % 2 === 1
const bitsOf = (limb: number): number => (isOdd(limb) ? 25 : 26)

/** The limbs of 2p: added before a subtraction, so that no limb falls below 0. */
const twoP = (limb: number): number => 2 ** (bitsOf(limb) + 1) - (limb === 0 ? 38 : 2)

// Instructions

type Code = ReadonlyArray<number>

const unsigned = (value: number): Code => (value < 0x80 ? [value] : [0x80 | (value & 0x7f), ...unsigned(value >>> 7)])

const signed = (value: number): Code =>
  value >= -64 && value < 64 ? [value & 0x7f] : [0x80 | (value & 0x7f), ...signed(value >> 7)]

const get = (local: number): Code => [0x20, ...unsigned(local)]
const set = (local: number): Code => [0x21, ...unsigned(local)]
const integer = (value: number): Code => [0x41, ...signed(value)]
const call = (fn: number): Code => [0x10, ...unsigned(fn)]
const add: Code = [0x6a]
const subtract: Code = [0x6b]
const times: Code = [0x6c]

const vector = (operation: number, ...immediate: ReadonlyArray<number>): Code => [
  0xfd,
  ...unsigned(operation),
  ...immediate
]
const at = (offset: number): Code => [0, ...unsigned(offset)]
const load = (offset: number): Code => vector(0x00, ...at(offset))
const loadFirst = (offset: number): Code => vector(0x5c, ...at(offset))
const loadSecond = (offset: number): Code => vector(0x56, ...at(offset), 1)
const store = (offset: number): Code => vector(0x0b, ...at(offset))
const both64 = (value: number): Code =>
  vector(0x0c, ...Array.from({ length: 16 }, (_, byte) => (byte % 8 < 4 ? (value >>> (8 * (byte % 8))) & 0xff : 0)))
const splat = vector(0x11)
const add32 = vector(0xae)
const subtract32 = vector(0xb1)
const times32 = vector(0xb5)
const shiftLeft32 = (bits: number): Code => [...integer(bits), ...vector(0xab)]
/** The products of the first two lanes, of 64 bits. */
const product64 = vector(0xde)
const add64 = vector(0xce)
const shiftLeft64 = (bits: number): Code => [...integer(bits), ...vector(0xcb)]
const shiftRight64 = (bits: number): Code => [...integer(bits), ...vector(0xcd)]
const and = vector(0x4e)
/** The lower halves of two lanes of 64 bits become the first two lanes of 32 bits. */
const narrow = vector(0x0d, 0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11)

// Functions, by their numbers in the program

const multiplyNumbers = 0
const addNumbers = 1
const subtractNumbers = 2
const addEntry = 3

const i32 = 0x7f
const v128 = 0x7b

interface Body {
  readonly locals: ReadonlyArray<readonly [count: number, type: number]>
  readonly code: Code
}

/** `multiply(product, a, b)`. */
const multiplyBody = (): Body => {
  const a = (limb: number) => 3 + limb
  const b = (limb: number) => 13 + limb
  const b19 = (limb: number) => 23 + limb
  const twiceA = (limb: number) => 33 + (limb - 1) / 2
  const sum = (limb: number) => 38 + limb
  const [spare, mask26, mask25] = [48, 49, 50]
  const code: Array<Code> = [both64(2 ** 26 - 1), set(mask26), both64(2 ** 25 - 1), set(mask25)]
  for (const i of limbs) code.push(get(1), load(16 * i), set(a(i)), get(2), load(16 * i), set(b(i)))
  code.push(integer(19), splat, set(spare))
  for (const i of limbs.slice(1)) code.push(get(b(i)), get(spare), times32, set(b19(i)))
  for (const i of limbs.filter(isOdd)) code.push(get(a(i)), shiftLeft32(1), set(twiceA(i)))
  // What is above 2^255 counts 19 times. Two odd limbs have half a bit more than the limb of their sum.
  for (const k of limbs) {
    for (const i of limbs) {
      const j = (k - i + 10) % 10
      code.push(get(isOdd(i) && isOdd(j) ? twiceA(i) : a(i)), get(i > k ? b19(j) : b(j)), product64)
      if (i > 0) code.push(add64)
    }
    code.push(set(sum(k)))
  }
  // Two chains of carries at a time. The last ones leave the limbs 1 and 5 a little above 25 bits.
  for (const i of [0, 4, 1, 5, 2, 6, 3, 7, 4, 8, 9, 0]) {
    code.push(get(sum(i)), shiftRight64(bitsOf(i)), set(spare))
    code.push(get(sum(i)), get(isOdd(i) ? mask25 : mask26), and, set(sum(i)))
    const next = (i + 1) % 10
    code.push(get(sum(next)), get(spare), add64)
    if (next === 0) code.push(get(spare), shiftLeft64(1), add64, get(spare), shiftLeft64(4), add64)
    code.push(set(sum(next)))
  }
  for (const i of limbs) code.push(get(0), get(sum(i)), get(sum(i)), narrow, store(16 * i))
  return { locals: [[48, v128]], code: code.flat() }
}

/** `add(sum, a, b)`. */
const addBody = (): Body => ({
  locals: [],
  code: limbs.flatMap((i) => [get(0), get(1), load(16 * i), get(2), load(16 * i), add32, store(16 * i)]).flat()
})

/** `subtract(difference, a, b)`: `b` is what `multiply` returns. */
const subtractBody = (): Body => ({
  locals: [],
  code: limbs
    .flatMap((i) => [
      [get(0), get(1), load(16 * i), integer(twoP(i)), splat, add32],
      [get(2), load(16 * i), subtract32, store(16 * i)]
    ])
    .flat(2)
})

/** `addEntry(point, first, second)`: adds an entry of a table to the point in the first lane, and another one to that in the second. */
const addEntryBody = (): Body => {
  const entry = 3
  const reserved = (index: number): Code => integer(16 + numberBytes * index)
  const code: Array<Code> = []
  for (let limb = 0; limb < 30; limb++) {
    code.push(reserved(0), get(1), loadFirst(4 * limb), set(entry))
    code.push(get(2), get(entry), loadSecond(4 * limb), store(16 * limb))
  }
  const coordinate = (index: number): Code => [...get(0), ...integer(numberBytes * index), ...add]
  const [x, y, z, t] = [coordinate(0), coordinate(1), coordinate(2), coordinate(3)]
  const [yPlusX, yMinusX, xy2d] = [reserved(0), reserved(1), reserved(2)]
  const [a, b, c, d] = [reserved(3), reserved(4), reserved(5), reserved(6)]
  const [e, f, g, h] = [reserved(7), reserved(8), reserved(9), reserved(10)]
  const run = (fn: number, to: Code, left: Code, right: Code) => code.push(to, left, right, call(fn))
  run(subtractNumbers, a, y, x)
  run(multiplyNumbers, a, a, yMinusX)
  run(addNumbers, b, y, x)
  run(multiplyNumbers, b, b, yPlusX)
  run(multiplyNumbers, c, t, xy2d)
  run(addNumbers, d, z, z)
  run(subtractNumbers, e, b, a)
  run(subtractNumbers, f, d, c)
  run(addNumbers, g, d, c)
  run(addNumbers, h, b, a)
  run(multiplyNumbers, x, f, e)
  run(multiplyNumbers, y, g, h)
  run(multiplyNumbers, z, f, g)
  run(multiplyNumbers, t, e, h)
  return { locals: [[1, v128]], code: code.flat() }
}

/**
 * `addMultiple(point, table, first, second)`: adds a multiple of the point of the table; its factors are numbers of 32 bytes. The
 * table has 32 rows of 256 entries.
 */
const addMultipleBody = (): Body => {
  const [point, row, left] = [0, 1, 4]
  const entryOf = (factor: number): Code =>
    [get(row), get(factor), [0x2d, ...at(0)], integer(entryBytes), times, add].flat()
  const advance = (local: number, by: number): Code => [get(local), integer(by), add, set(local)].flat()
  const loop: Array<Code> = [get(point), entryOf(2), entryOf(3), call(addEntry)]
  loop.push(advance(row, 256 * entryBytes), advance(2, 1), advance(3, 1))
  loop.push(get(left), integer(1), subtract, [0x22, left], [0x0d, 0])
  return { locals: [[1, i32]], code: [integer(32), set(left), [0x03, 0x40], loop.flat(), [0x0b]].flat() }
}

// The program

const list = (items: ReadonlyArray<Code>): Code => [...unsigned(items.length), ...items.flat()]
const section = (id: number, content: Code): Code => [id, ...unsigned(content.length), ...content]

const functionType = (parameters: number): Code => [0x60, ...list(Array(parameters).fill([i32])), 0]

const exported = (name: string, kind: number, index: number): Code => [
  ...list([...Buffer.from(name)].map((byte) => [byte])),
  kind,
  index
]

const bodyOf = ({ code, locals }: Body): Code => {
  const content = [...list(locals.map(([count, type]) => [...unsigned(count), type])), ...code, 0x0b]
  return [...unsigned(content.length), ...content]
}

/** The bytes of the program, which exports its memory of one page and the functions that are described above. */
export const curveProgram = (): Uint8Array =>
  Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list([functionType(3), functionType(4)])),
    ...section(3, list([[0], [0], [0], [0], [1]])),
    ...section(5, list([[0, 1]])),
    ...section(
      7,
      list([
        exported("memory", 2, 0),
        exported("multiply", 0, multiplyNumbers),
        exported("add", 0, addNumbers),
        exported("subtract", 0, subtractNumbers),
        exported("addEntry", 0, addEntry),
        exported("addMultiple", 0, 4)
      ])
    ),
    ...section(10, list([multiplyBody(), addBody(), subtractBody(), addEntryBody(), addMultipleBody()].map(bodyOf)))
  ])
