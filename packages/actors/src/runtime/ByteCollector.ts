/**
 * Collects the bytes of a body that arrives in chunks. Each chunk is an object of more than a hundred bytes, and the sender decides
 * how small chunks are: a list of chunks of one byte would occupy a hundred times the memory of the body. So small chunks are copied
 * into blocks.
 */

/** Chunks from this size are kept as they are, in bytes. */
const smallestKept = 4 * 1024

const smallestBlock = 2 * smallestKept
const largestBlock = 64 * 1024

const empty = Buffer.alloc(0)

/** A body, as far as it has arrived. */
export class ByteCollector {
  /** The number of bytes. */
  length = 0
  private parts: Array<Buffer> = []
  /** The block that small chunks are copied to: it is filled from `start` to `end`. */
  private block: Buffer = empty
  private start = 0
  private end = 0

  /** Adds a chunk, which the caller does not change afterwards. */
  add(chunk: Buffer): void {
    this.length += chunk.length
    if (chunk.length >= smallestKept) {
      this.closePart()
      this.parts.push(chunk)
      return
    }
    if (chunk.length > this.block.length - this.end) this.startBlock()
    this.end += chunk.copy(this.block, this.end)
  }

  /** Removes and returns all bytes. */
  take(): Buffer {
    this.closePart()
    const { parts } = this
    this.length = 0
    this.parts = []
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
  }

  private startBlock(): void {
    this.closePart()
    this.block = Buffer.allocUnsafeSlow(Math.min(largestBlock, Math.max(smallestBlock, this.length)))
    this.start = 0
    this.end = 0
  }

  private closePart(): void {
    if (this.end > this.start) this.parts.push(this.block.subarray(this.start, this.end))
    this.start = this.end
  }
}
