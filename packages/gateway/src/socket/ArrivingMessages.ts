/**
 * Bounds the bytes of messages that have not arrived whole, of all WebSockets together. Where they are too many, the socket whose message
 * began to arrive first is closed: a message that is sent to occupy memory has arrived by then.
 *
 * `ws` gives only whole messages. What has arrived of the next one is what was read since: at most the last chunk right after a message.
 */
import type { Duplex } from "node:stream"
import type { RawData, WebSocket } from "ws"

/** The most bytes of all incomplete messages: those of 256 sockets that send the largest message. */
export const maxArrivingBytes = 64 * 1024 * 1024

const lengthOf = (data: RawData): number =>
  Array.isArray(data) ? data.reduce((sum, { length }) => sum + length, 0) : data.byteLength

/** The bytes of a message in one frame of a client: RFC 6455, section 5.2. */
const frameLength = (length: number): number => length + (length < 126 ? 6 : length < 65_536 ? 8 : 14)

export class ArrivingMessages {
  private readonly limit: number
  private total = 0
  /** The sockets with parts of a message, and how many bytes; the oldest first. */
  private readonly arriving = new Map<WebSocket, number>()

  /** `limit` in bytes. */
  constructor(limit: number) {
    this.limit = limit
  }

  /** Counts what arrives by `connection` for `socket`, and closes the sockets of the oldest messages where that is too much. */
  watch(socket: WebSocket, connection: Duplex): void {
    let lastChunk = 0
    const onChunk = (chunk: Buffer) => {
      lastChunk = chunk.length
      this.set(socket, (this.arriving.get(socket) ?? 0) + lastChunk)
      this.enforce()
    }
    const onWhole = (data: RawData) => {
      const rest = (this.arriving.get(socket) ?? 0) - frameLength(lengthOf(data))
      this.set(socket, 0)
      this.set(socket, Math.max(0, Math.min(rest, lastChunk)))
    }
    socket.on("message", onWhole).on("ping", onWhole).on("pong", onWhole)
    // Before `ws` reads the chunk, and may find the end of a message in it.
    connection.prependListener("data", onChunk)
    socket.once("close", () => {
      connection.off("data", onChunk)
      this.set(socket, 0)
    })
  }

  private set(socket: WebSocket, bytes: number): void {
    this.total += bytes - (this.arriving.get(socket) ?? 0)
    if (bytes === 0) this.arriving.delete(socket)
    else this.arriving.set(socket, bytes)
  }

  private enforce(): void {
    for (const socket of this.arriving.keys()) {
      if (this.total <= this.limit) return
      this.set(socket, 0)
      socket.terminate()
    }
  }
}
