/**
 * `COPY ... TO STDOUT` in large blocks. PostgreSQL sends a message for each row; `pg-copy-streams` makes objects for each, which
 * cost more than the copying itself. This takes the payloads of the messages from the socket straight into a block.
 *
 * A query of `pg` (`client.query(new CopyOut(text))`) that is read by `for await`. The reader's pace stops the socket. A block is
 * used again once the reader has asked for `heldBlocks` others after it, since fresh memory for each would keep the garbage collector
 * busy; for the same reason the socket reads into one buffer (`copySocket`).
 */
import { Socket } from "node:net"
import type { Connection } from "pg"

/** How long the payload of a block is at most, in bytes. */
export const blockBytes = 512 * 1024

/** How many blocks wait for the reader before the socket pauses. */
const maxWaiting = 4

/** How many blocks the reader may hold beside the newest one. */
export const heldBlocks = 6

/** The head of a message: its type, and the length of what follows with the four bytes of the length. */
const headBytes = 5

const copyData = "d".charCodeAt(0)
/** Messages that may come between rows and are passed over: CopyOutResponse, notice, parameter, notification. */
const passedOver = new Set(["H", "N", "S", "A"].map((type) => type.charCodeAt(0)))

/** How many bytes a socket reads at once. */
const readBytes = 256 * 1024

/** Sockets that read into one buffer, with the reader of a copy while there is one. */
const copySockets = new WeakMap<Socket, { reader: ((chunk: Buffer) => void) | undefined }>()

/** A socket for a connection of `pg` that copies. A copy takes the bytes from the buffer itself, everything else gets its own. */
export const copySocket = (): Socket => {
  const state: { reader: ((chunk: Buffer) => void) | undefined } = { reader: undefined }
  const socket: Socket = new Socket({
    onread: {
      buffer: Buffer.allocUnsafe(readBytes),
      callback: (length, buffer) => {
        const chunk = Buffer.from(buffer.buffer, buffer.byteOffset, length)
        if (state.reader === undefined) socket.emit("data", Buffer.from(chunk))
        else state.reader(chunk)
        return true
      }
    }
  })
  copySockets.set(socket, state)
  return socket
}

export class CopyOut {
  /** How many rows were copied; set at the end. */
  rowCount = 0
  private readonly text: string
  private readonly space: number
  private readonly head = Buffer.alloc(headBytes)
  private headLength = 0
  private left = 0
  private isData = false
  private block: Buffer
  private length: number
  /** Blocks that wait for the reader, whole, each with how much of it is filled. */
  private readonly waiting: Array<{ readonly block: Buffer; readonly length: number }> = []
  private readonly free: Array<Buffer> = []
  /** Blocks that the reader may hold, the oldest first. */
  private readonly held: Array<Buffer> = []
  private isOver = false
  private error: Error | undefined
  private wake = () => {}
  private socket: Socket | undefined
  private stopReading = () => {}

  /** Each block begins with `space` bytes that the reader may fill. */
  constructor(text: string, space: number) {
    this.text = text
    this.space = space
    this.block = Buffer.allocUnsafe(space + blockBytes)
    this.length = space
  }

  /** Called by `pg` when the connection is free. */
  submit(connection: Connection): void {
    const socket = connection.stream as Socket
    const parse = socket.listeners("data")[0] as (chunk: Buffer) => void
    const onData = (chunk: Buffer) => {
      const rest = this.read(chunk)
      if (rest === undefined) return
      this.stopReading()
      parse(rest)
    }
    this.socket = socket
    const own = copySockets.get(socket)
    this.stopReading = () => {
      if (own === undefined) socket.off("data", onData).on("data", parse)
      else own.reader = undefined
      this.stopReading = () => {}
      socket.resume()
    }
    if (own === undefined) socket.off("data", parse).on("data", onData)
    else own.reader = onData
    connection.query(this.text)
  }

  /** Takes the buffered rows. Returns the bytes after the last one, for `pg` to read. */
  private read(chunk: Buffer): Buffer | undefined {
    let at = 0
    while (at < chunk.length) {
      if (this.left > 0) {
        const end = Math.min(chunk.length, at + this.left)
        if (this.isData) this.take(chunk, at, end)
        this.left -= end - at
        at = end
        continue
      }
      const end = Math.min(chunk.length, at + headBytes - this.headLength)
      chunk.copy(this.head, this.headLength, at, end)
      this.headLength += end - at
      at = end
      if (this.headLength < headBytes) return undefined
      this.headLength = 0
      const type = this.head[0]!
      this.isData = type === copyData
      if (!this.isData && !passedOver.has(type)) return Buffer.concat([this.head, chunk.subarray(at)])
      this.left = this.head.readUInt32BE(1) - 4
    }
    return undefined
  }

  private take(chunk: Buffer, from: number, end: number): void {
    for (let at = from; at < end; ) {
      const copied = chunk.copy(this.block, this.length, at, end)
      this.length += copied
      at += copied
      if (this.length === this.block.length) this.finishBlock()
    }
  }

  private finishBlock(): void {
    this.waiting.push({ block: this.block, length: this.length })
    this.block = this.free.pop() ?? Buffer.allocUnsafe(this.space + blockBytes)
    this.length = this.space
    if (this.waiting.length >= maxWaiting) this.socket?.pause()
    this.wake()
  }

  private end(error?: Error): void {
    if (this.isOver) return
    this.stopReading()
    if (error === undefined && this.length > this.space) this.finishBlock()
    this.socket?.resume()
    this.isOver = true
    this.error = error
    this.wake()
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.rowCount = Number(/^COPY ([0-9]+)$/.exec(text)?.[1])
  }

  handleReadyForQuery(): void {
    this.end()
  }

  handleError(error: Error): void {
    this.end(error)
  }

  handleCopyData(): void {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      const next = this.waiting.shift()
      if (next !== undefined) {
        if (this.waiting.length < maxWaiting) this.socket?.resume()
        yield next.block.subarray(0, next.length)
        this.held.push(next.block)
        if (this.held.length > heldBlocks) this.free.push(this.held.shift()!)
      } else if (this.error !== undefined) throw this.error
      else if (this.isOver) return
      else {
        await new Promise<void>((resolve) => {
          this.wake = resolve
        })
      }
    }
  }
}
