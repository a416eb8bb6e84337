/**
 * A Bloom filter that grows: says of a key that it was never added, or that it may have been. It takes ten bits for each
 * key, of which a key that was not added is taken for one in about a hundred times.
 */

const bitsPerKey = 10
const probes = 7
const firstCapacity = 1_024

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

export class KeyFilter {
  private readonly layers: Array<Layer> = []
  private capacity = firstCapacity

  add(key: string): void {
    let layer = this.layers.at(-1)
    if (layer === undefined || layer.room === 0) {
      layer = makeLayer(this.capacity)
      this.layers.push(layer)
      this.capacity *= 2
    }
    layer.room--
    const { bits } = layer
    const hash = hashOf(key)
    const stride = strideOf(hash)
    for (let probe = 0; probe < probes; probe++) {
      const bit = (hash + probe * stride) % (bits.length * 32)
      bits[bit >>> 5]! |= 1 << (bit & 31)
    }
  }

  /** False if the key was never added. */
  mayHave(key: string): boolean {
    if (this.layers.length === 0) return false
    const hash = hashOf(key)
    const stride = strideOf(hash)
    return this.layers.some(({ bits }) => {
      for (let probe = 0; probe < probes; probe++) {
        const bit = (hash + probe * stride) % (bits.length * 32)
        if ((bits[bit >>> 5]! & (1 << (bit & 31))) === 0) return false
      }
      return true
    })
  }
}
