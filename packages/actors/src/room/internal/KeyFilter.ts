/**
 * A Bloom filter that grows with its keys: says of a key that it was never added, or that it may have been, which is
 * mistaken once in some hundred times at most. It takes two to ten bytes for each key, and 128 at least.
 */

const bitsPerKey = 16
const probes = 7
const firstCapacity = 64
/** How many times larger each layer is than the one before it. */
const growth = 4

interface Layer {
  readonly bits: Uint32Array
  room: number
}

const makeLayer = (capacity: number): Layer => ({
  bits: new Uint32Array(Math.ceil((capacity * bitsPerKey) / 32)),
  room: capacity
})

/** FNV-1a. */
const hashOf = (key: string): number => {
  let hash = 0x811c9dc5
  for (let index = 0; index < key.length; index++) hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193)
  return hash >>> 0
}

/** How far it is from one probe to the next: odd, and of other bits of the hash. */
const strideOf = (hash: number): number => (Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) | 1) >>> 0

/** Whether all bits of a key are set. */
const isIn = ({ bits }: Layer, hash: number, stride: number): boolean => {
  for (let probe = 0; probe < probes; probe++) {
    const bit = (hash + probe * stride) % (bits.length * 32)
    if ((bits[bit >>> 5]! & (1 << (bit & 31))) === 0) return false
  }
  return true
}

const put = ({ bits }: Layer, hash: number, stride: number): void => {
  for (let probe = 0; probe < probes; probe++) {
    const bit = (hash + probe * stride) % (bits.length * 32)
    bits[bit >>> 5]! |= 1 << (bit & 31)
  }
}

export class KeyFilter {
  private readonly layers: Array<Layer> = []
  private capacity = firstCapacity

  /** Adds a key, and says whether it is sure that it was never added before. */
  add(key: string): boolean {
    const hash = hashOf(key)
    const stride = strideOf(hash)
    for (const layer of this.layers) if (isIn(layer, hash, stride)) return false
    let layer = this.layers.at(-1)
    if (layer === undefined || layer.room === 0) {
      layer = makeLayer(this.capacity)
      this.layers.push(layer)
      this.capacity *= growth
    }
    layer.room--
    put(layer, hash, stride)
    return true
  }
}
