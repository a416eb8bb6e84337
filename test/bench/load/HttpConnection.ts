/**
 * One connection to an HTTP server, kept alive, with one request at a time: as little work as a client can do, so that
 * the load program does not compete with the server for the processor. It reads only answers with a content-length, as the gateway
 * sends them to these requests.
 */
import { connect, type Socket } from "node:net"

export interface HttpAnswer {
  readonly status: number
  /** Bytes of the body. */
  readonly size: number
  readonly body: Buffer
}

interface Waiting {
  readonly resolve: (answer: HttpAnswer) => void
  readonly reject: (error: Error) => void
}

const endOfHead = Buffer.from("\r\n\r\n")
const lengthHeader = /\r\ncontent-length: *([0-9]+)/i

export class HttpConnection {
  private readonly socket: Socket
  private readonly host: string
  private waiting: Waiting | undefined
  private received: Array<Buffer> = []
  private size = 0
  /** How many bytes the answer has in all, once its head is there. */
  private expected = Number.POSITIVE_INFINITY
  private bodyAt = 0
  private status = 0

  private constructor(socket: Socket, host: string) {
    this.socket = socket
    this.host = host
    socket.setNoDelay(true)
    socket.on("data", (chunk) => this.onData(chunk))
    socket.on("error", (error) => this.fail(error))
    socket.on("close", () => this.fail(new Error("The server closed the connection")))
  }

  static open(url: string): Promise<HttpConnection> {
    const { host, hostname, port } = new URL(url)
    return new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port) }, () => {
        socket.off("error", reject)
        resolve(new HttpConnection(socket, host))
      })
      socket.once("error", reject)
    })
  }

  /** Sends a request; `body` is JSON text. */
  request(method: string, path: string, token?: string, body?: string): Promise<HttpAnswer> {
    const authorization = token === undefined ? "" : `authorization: Bearer ${token}\r\n`
    const content =
      body === undefined
        ? "\r\n"
        : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
      this.socket.write(`${method} ${path} HTTP/1.1\r\nhost: ${this.host}\r\n${authorization}${content}`)
    })
  }

  close(): void {
    this.waiting = undefined
    this.socket.destroy()
  }

  private onData(chunk: Buffer): void {
    this.received.push(chunk)
    this.size += chunk.length
    if (this.expected === Number.POSITIVE_INFINITY) this.readHead()
    if (this.size < this.expected) return
    const whole = this.received.length === 1 ? this.received[0]! : Buffer.concat(this.received)
    const body = whole.subarray(this.bodyAt, this.expected)
    const { status, waiting } = this
    this.received = []
    this.size = 0
    this.expected = Number.POSITIVE_INFINITY
    this.waiting = undefined
    waiting?.resolve({ status, size: body.length, body })
  }

  private readHead(): void {
    const start = this.received.length === 1 ? this.received[0]! : Buffer.concat(this.received)
    const end = start.indexOf(endOfHead)
    if (end === -1) return
    const head = start.toString("latin1", 0, end)
    const length = lengthHeader.exec(head)?.[1]
    this.bodyAt = end + endOfHead.length
    this.status = Number(head.slice(9, 12))
    if (length === undefined) this.fail(new Error(`An answer without a content-length: ${head}`))
    else this.expected = this.bodyAt + Number(length)
  }

  private fail(error: Error): void {
    const { waiting } = this
    this.waiting = undefined
    waiting?.reject(error)
  }
}
