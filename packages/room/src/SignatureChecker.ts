/**
 * Checks batches of Ed25519 signatures, those of keys that have signed many in a third of the time of libsodium: a large room has
 * few servers with many members.
 *
 * A signature (R, s) of a text by the key A is right where s B - h A = R: B is the base point of the curve, and h a hash of R, A and
 * the text. s B is a sum of 32 points, one for each byte of s, from a table of the multiples of B; and -h A of such points from a table that
 * is made for the key. Tables find right signatures alone. All others are for libsodium to decide, by whose rules `Signing.verifyBytes`
 * decides; what it would refuse has no table or is not looked up.
 *
 * The text of the class is part of the program of a thread (`SignatureThreads`), so it refers to nothing outside of itself.
 *
 * Source: RFC 8032, section 5.1.
 */
import { curveProgram } from "./internal/curveProgram.ts"

/** Signatures to check: texts, signatures of 64 bytes and keys of 32 bytes, each one after the other. */
export interface SignatureBatch {
  readonly texts: Uint8Array
  /** Where each text ends. */
  readonly ends: Uint32Array
  readonly signatures: Uint8Array
  readonly keys: Uint8Array
  /** The number of the key of each signature. */
  readonly keyOf: Uint32Array
}

/** What the checker works with: the program of the curve, `crypto_sign_verify_detached` of libsodium, and a hash. */
export interface CheckerParts {
  readonly curve: Uint8Array
  readonly isRight: (signature: Uint8Array, text: Uint8Array, key: Uint8Array) => boolean
  readonly sha512: (bytes: Uint8Array) => Uint8Array
}

/** The program of the curve, for `CheckerParts`. */
export const checkerCurve = curveProgram

/** The functions of `curveProgram`. Numbers, points and tables are addresses in its memory. */
interface Curve {
  readonly memory: { readonly buffer: ArrayBuffer; readonly grow: (pages: number) => number }
  readonly multiply: (product: number, a: number, b: number) => void
  readonly add: (sum: number, a: number, b: number) => void
  readonly subtract: (difference: number, a: number, b: number) => void
  readonly addEntry: (point: number, first: number, second: number) => void
  readonly addMultiple: (point: number, table: number, first: number, second: number) => void
}

/** The part of WebAssembly that is used: TypeScript declares it for browsers. */
interface Engine {
  readonly validate: (bytes: Uint8Array) => boolean
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object) => { readonly exports: unknown }
}

export class SignatureChecker {
  // As in `curveProgram`.
  private readonly numberBytes = 160
  private readonly entryBytes = 120
  private readonly pointBytes = 4 * this.numberBytes
  private readonly tableBytes = 32 * 256 * this.entryBytes

  /** A table takes the time of 500 signatures, and 1 MB. */
  private readonly worthTable = 500
  private readonly maxTables = 4
  private readonly maxCounted = 1_000
  /** How many points are made affine at once. */
  private readonly maxPoints = 257

  private readonly prime = 2n ** 255n - 19n
  private readonly order = 2n ** 252n + 27742317777372353535851937790883648493n
  private readonly d = this.modulo(-121665n * this.power(121666n, this.prime - 2n))
  /** The first four bytes of the points of small order, without the bit of the sign. */
  private readonly beginningsOfSmallOrder = new Set([0, 1, 0x8f95e826, 0x706a17c7, 0xffffffec])

  private readonly parts: CheckerParts
  private curve: Curve | undefined
  private memory = Buffer.alloc(0)
  private words = new Uint32Array()
  private baseTable = 0
  private readonly tables = new Map<string, number>()
  /** How many right signatures of a key libsodium has seen. */
  private readonly counts = new Map<string, number>()
  private hashed = new Uint8Array(4_096)

  // Addresses.
  private readonly one = 2_048
  private readonly inverse = this.one + this.numberBytes
  private readonly spare = this.inverse + this.numberBytes
  private readonly twiceD = this.spare + this.numberBytes
  private readonly coordinates = this.twiceD + this.numberBytes
  private readonly factors = this.coordinates + 3 * this.numberBytes
  private readonly products = this.factors + 4 * 32
  private readonly points = this.products + this.maxPoints * this.numberBytes
  private readonly firstTable = this.points + this.maxPoints * this.pointBytes

  constructor(parts: CheckerParts) {
    this.parts = parts
  }

  /** 1 for each right signature. */
  check(batch: SignatureBatch): Uint8Array {
    const { ends, keyOf, keys } = batch
    const results = new Uint8Array(ends.length)
    for (const [number, signed] of Map.groupBy(ends.keys(), (index) => keyOf[index]!)) {
      const key = keys.subarray(32 * number, 32 * number + 32)
      const name = Buffer.from(key).toString("latin1")
      const table = this.tables.get(name)
      if (table !== undefined) this.findRight(batch, key, table, signed, results)
      let right = 0
      for (const index of signed) {
        if (results[index] === 1) continue
        if (!this.parts.isRight(this.signatureIn(batch, index), this.textIn(batch, index), key)) continue
        results[index] = 1
        right++
      }
      if (table === undefined) this.count(name, right)
    }
    return results
  }

  private signatureIn({ signatures }: SignatureBatch, index: number): Uint8Array {
    return signatures.subarray(64 * index, 64 * index + 64)
  }

  private textIn({ ends, texts }: SignatureBatch, index: number): Uint8Array {
    return texts.subarray(index === 0 ? 0 : ends[index - 1], ends[index])
  }

  /** Makes the table of a key that has signed much. Libsodium has accepted the key. */
  private count(name: string, right: number): void {
    const count = (this.counts.get(name) ?? 0) + right
    if (count >= this.worthTable && this.tables.size < this.maxTables && this.begin()) {
      this.counts.delete(name)
      const table = this.tableOf(Buffer.from(name, "latin1"))
      if (table !== undefined) this.tables.set(name, table)
      return
    }
    if (this.counts.size >= this.maxCounted) this.counts.clear()
    this.counts.set(name, count)
  }

  /** Sets the results of the signatures that are right by the table of their key. */
  private findRight(
    batch: SignatureBatch,
    key: Uint8Array,
    table: number,
    signed: ReadonlyArray<number>,
    results: Uint8Array
  ): void {
    const pointOf = (pair: number) => this.points + this.pointBytes * pair
    const most = 2 * this.maxPoints
    for (let begin = 0; begin < signed.length; begin += most) {
      const part = signed.slice(begin, begin + most)
      const pairs = Math.ceil(part.length / 2)
      for (let pair = 0; pair < pairs; pair++) {
        // The last one may have nothing beside it.
        this.putFactors(0, batch, key, part[2 * pair]!)
        this.putFactors(1, batch, key, part[2 * pair + 1] ?? part[2 * pair]!)
        this.multiply(pointOf(pair), table)
      }
      this.makeAffine(pairs)
      for (const [at, index] of part.entries()) {
        if (this.isPoint(pointOf(at >> 1), at & 1, this.signatureIn(batch, index))) results[index] = 1
      }
    }
  }

  /** s and h of a signature, for one of the lanes. */
  private putFactors(lane: number, batch: SignatureBatch, key: Uint8Array, index: number): void {
    const signature = this.signatureIn(batch, index)
    this.memory.set(signature.subarray(32), this.factors + 32 * lane)
    this.putHash(this.factors + 64 + 32 * lane, signature, key, this.textIn(batch, index))
  }

  /** s B - h A in both lanes. */
  private multiply(point: number, table: number): void {
    const { factors } = this
    this.putNeutral(point)
    this.curve!.addMultiple(point, this.baseTable, factors, factors + 32)
    this.curve!.addMultiple(point, table, factors + 64, factors + 96)
  }

  /** The hash of a signature, modulo the order of the base point. */
  private putHash(at: number, signature: Uint8Array, key: Uint8Array, text: Uint8Array): void {
    const size = 64 + text.length
    if (this.hashed.length < size) this.hashed = new Uint8Array(2 * size)
    this.hashed.set(signature.subarray(0, 32))
    this.hashed.set(key, 32)
    this.hashed.set(text, 64)
    const digest = this.parts.sha512(this.hashed.subarray(0, size))
    const view = new DataView(digest.buffer, digest.byteOffset, 64)
    let number = 0n
    for (let word = 7; word >= 0; word--) number = (number << 64n) | view.getBigUint64(8 * word, true)
    number %= this.order
    for (let word = 0; word < 4; word++) {
      this.memory.writeBigUInt64LE(BigInt.asUintN(64, number), at + 8 * word)
      number >>= 64n
    }
  }

  /**
   * Whether the point, which is affine, is the R of a signature that libsodium does not refuse: s is below the order for sure if
   * its highest four bits are 0, as they nearly always are.
   */
  private isPoint(point: number, lane: number, signature: Uint8Array): boolean {
    if (signature[63]! >= 0x10) return false
    const y = this.encode(point + this.numberBytes, lane)
    y[31]! |= (this.encode(point, lane)[0]! & 1) << 7
    for (let byte = 0; byte < 32; byte++) if (y[byte] !== signature[byte]) return false
    return !this.beginningsOfSmallOrder.has(new DataView(y.buffer).getUint32(0, true))
  }

  // Tables

  /** The table of the negated key. Undefined where it is not the encoding of a point. */
  private tableOf(key: Uint8Array): number | undefined {
    const encoded = BigInt(`0x${Buffer.from(key).reverse().toString("hex")}`)
    const y = BigInt.asUintN(255, encoded)
    const x = y < this.prime ? this.xOf(y, encoded >> 255n) : undefined
    return x === undefined ? undefined : this.makeTable(this.modulo(-x), y)
  }

  /** Starts the program of the curve. False where the processor lacks its vectors. */
  private begin(): boolean {
    if (this.curve !== undefined) return true
    const { Instance, Module, validate } = (globalThis as unknown as { readonly WebAssembly: Engine }).WebAssembly
    if (!validate(this.parts.curve)) return false
    this.curve = new Instance(new Module(this.parts.curve)).exports as Curve
    this.reserve(this.firstTable)
    this.put(this.one, 1n)
    this.put(this.twiceD, 2n * this.d)
    const y = this.modulo(4n * this.power(5n, this.prime - 2n))
    this.baseTable = this.makeTable(this.xOf(y, 0n)!, y)
    return true
  }

  /** Makes the memory at least as long. */
  private reserve(bytes: number): void {
    const { memory } = this.curve!
    const missing = bytes - memory.buffer.byteLength
    if (missing > 0) memory.grow(Math.ceil(missing / 65_536))
    this.memory = Buffer.from(memory.buffer)
    this.words = new Uint32Array(memory.buffer)
  }

  /** A row for each byte of a factor: all multiples of the point by that byte, of which 0 is the neutral one. */
  private makeTable(x: bigint, y: bigint): number {
    const { entryBytes, numberBytes, pointBytes, points } = this
    const table = this.baseTable === 0 ? this.firstTable : this.firstTable + this.tableBytes * (1 + this.tables.size)
    this.reserve(table + this.tableBytes)
    const curve = this.curve!
    this.put(points, x)
    this.put(points + numberBytes, y)
    for (let row = table; row < table + this.tableBytes; row += 256 * entryBytes) {
      const unit = row + entryBytes
      this.putEntry(unit, points)
      this.putNeutral(points)
      for (let factor = 1; factor <= 256; factor++) {
        const point = points + pointBytes * factor
        this.memory.copyWithin(point, point - pointBytes, point)
        curve.addEntry(point, unit, unit)
      }
      this.makeAffine(257)
      for (let factor = 0; factor < 256; factor++)
        this.putEntry(row + entryBytes * factor, points + pointBytes * factor)
      this.memory.copyWithin(points, points + 256 * pointBytes, points + 256 * pointBytes + 2 * numberBytes)
    }
    return table
  }

  /** An affine point as tables have it: y + x, y - x and 2dxy, without lanes. */
  private putEntry(entry: number, point: number): void {
    const curve = this.curve!
    const { numberBytes, words } = this
    const [sum, difference, product] = [0, 1, 2].map((index) => this.coordinates + numberBytes * index) as [
      number,
      number,
      number
    ]
    curve.add(sum, point + numberBytes, point)
    curve.subtract(difference, point + numberBytes, point)
    curve.multiply(product, point, point + numberBytes)
    curve.multiply(product, product, this.twiceD)
    for (let limb = 0; limb < 30; limb++) words[entry / 4 + limb] = words[this.coordinates / 4 + 4 * limb]!
  }

  // Points and numbers

  /** The x of a point by its y and whether x is odd; undefined where there is none. */
  private xOf(y: bigint, isOdd: bigint): bigint | undefined {
    const { prime } = this
    const u = this.modulo(y * y - 1n)
    const v = this.modulo(this.d * y * y + 1n)
    let x = this.modulo(u * v ** 3n * this.power(u * v ** 7n, (prime - 5n) / 8n))
    if (this.modulo(v * x * x) !== u) x = this.modulo(x * this.power(2n, (prime - 1n) / 4n))
    if (this.modulo(v * x * x) !== u) return undefined
    if ((x & 1n) === isOdd) return x
    return x === 0n ? undefined : prime - x
  }

  /** Divides x and y of the first points by their z: one division for all, and three products for each. */
  private makeAffine(count: number): void {
    const curve = this.curve!
    const { inverse, numberBytes, one, pointBytes, points, products, spare } = this
    const zOf = (index: number) => points + pointBytes * index + 2 * numberBytes
    const productOf = (index: number) => products + numberBytes * index
    for (let index = 0; index < count; index++) {
      curve.multiply(productOf(index), index === 0 ? one : productOf(index - 1), zOf(index))
    }
    this.invert(inverse, productOf(count - 1))
    for (let index = count - 1; index >= 0; index--) {
      const point = points + pointBytes * index
      curve.multiply(spare, inverse, index === 0 ? one : productOf(index - 1))
      curve.multiply(inverse, inverse, zOf(index))
      curve.multiply(point, point, spare)
      curve.multiply(point + numberBytes, point + numberBytes, spare)
    }
  }

  /** By Fermat: the power p - 2. */
  private invert(inverse: number, number: number): void {
    const { multiply } = this.curve!
    this.put(inverse, 1n)
    for (const bit of (this.prime - 2n).toString(2)) {
      multiply(inverse, inverse, inverse)
      if (bit === "1") multiply(inverse, inverse, number)
    }
  }

  private putNeutral(point: number): void {
    const { numberBytes, words } = this
    words.fill(0, point / 4, (point + this.pointBytes) / 4)
    for (const lane of [0, 1]) {
      words[(point + numberBytes) / 4 + lane] = 1
      words[(point + 2 * numberBytes) / 4 + lane] = 1
    }
  }

  private bitsOf(limb: number): number {
    return limb % 2 === 1 ? 25 : 26
  }

  /** Writes a number into both lanes. */
  private put(at: number, number: bigint): void {
    let rest = this.modulo(number)
    for (let limb = 0; limb < 10; limb++) {
      const bits = BigInt(this.bitsOf(limb))
      this.words.fill(Number(BigInt.asUintN(Number(bits), rest)), at / 4 + 4 * limb, at / 4 + 4 * limb + 2)
      rest >>= bits
    }
  }

  /** The number in a lane, below p, as 32 bytes. */
  private encode(at: number, lane: number): Uint8Array {
    const limbs = new Array<number>(10)
    for (let limb = 0; limb < 10; limb++) limbs[limb] = this.words[at / 4 + 4 * limb + lane]!
    // Twice, since the first carry out of the highest limb may make the lowest ones too large again.
    limbs[0]! += 19 * this.carry(limbs, 0)
    limbs[0]! += 19 * this.carry(limbs, 0)
    this.carry(limbs, 0)
    const less = limbs.slice()
    // Of a number that is not below p, 19 more reach 2^255.
    const reduced = this.carry(less, 19) === 1 ? less : limbs
    const bytes = new Uint8Array(32)
    let [held, bits, next] = [0, 0, 0]
    for (let limb = 0; limb < 10; limb++) {
      held += reduced[limb]! * 2 ** bits
      bits += this.bitsOf(limb)
      for (; bits >= 8; bits -= 8) {
        bytes[next++] = held % 256
        held = Math.floor(held / 256)
      }
    }
    bytes[next] = held
    return bytes
  }

  /** Adds to the lowest limb, and carries. Returns what is carried out of the highest limb. */
  private carry(limbs: Array<number>, added: number): number {
    let carried = added
    for (let limb = 0; limb < 10; limb++) {
      const sum = limbs[limb]! + carried
      const bits = this.bitsOf(limb)
      limbs[limb] = sum & ((1 << bits) - 1)
      carried = sum >>> bits
    }
    return carried
  }

  private modulo(number: bigint): bigint {
    const rest = number % this.prime
    return rest < 0n ? rest + this.prime : rest
  }

  private power(base: bigint, exponent: bigint): bigint {
    let [result, square] = [1n, this.modulo(base)]
    for (let rest = exponent; rest > 0n; rest >>= 1n) {
      if ((rest & 1n) === 1n) result = (result * square) % this.prime
      square = (square * square) % this.prime
    }
    return result
  }
}
