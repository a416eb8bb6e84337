/**
 * One connection to the PostgreSQL of a data directory that runs one prepared statement over and over, each time in a
 * transaction of its own: as little work as a client of PostgreSQL can do. It measures the cost of durable writes without a
 * server before the database, the baseline of all benchmarks that store events.
 */
import { connect, type Socket } from "node:net"

const message = (type: string, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const body = Buffer.concat(parts)
  const head = Buffer.alloc(5)
  head.write(type, "latin1")
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

const int16 = (value: number): Buffer => Buffer.from([(value >> 8) & 0xff, value & 0xff])
const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
const text = (value: string): Buffer => Buffer.from(`${value}\0`)

const startup = (user: string, database: string): Buffer => {
  const body = Buffer.concat([
    int32(3 << 16),
    text("user"),
    text(user),
    text("database"),
    text(database),
    Buffer.from([0])
  ])
  return Buffer.concat([int32(body.length + 4), body])
}

/** The letters of the messages of PostgreSQL that count here. */
const errorResponse = 0x45
const readyForQuery = 0x5a
const sync = message("S")
const execute = message("E", text(""), int32(0))

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class PostgresConnection {
  private readonly socket: Socket
  private waiting: Waiting | undefined
  private rest: Buffer = Buffer.alloc(0)
  private error: Error | undefined

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on("data", (chunk) => this.onData(chunk))
  }

  /** `socketPath` is the Unix socket of the server, which asks for no password there. */
  static async open(socketPath: string, user: string, database: string): Promise<PostgresConnection> {
    const socket = await new Promise<Socket>((resolve, reject) => {
      const opened = connect(socketPath, () => resolve(opened))
      opened.once("error", reject)
    })
    const connection = new PostgresConnection(socket)
    await connection.send(startup(user, database))
    return connection
  }

  /** Runs statements without parameters. */
  query(sql: string): Promise<void> {
    return this.send(message("Q", text(sql)))
  }

  prepare(sql: string): Promise<void> {
    return this.send(Buffer.concat([message("P", text("statement"), text(sql), int16(0)), sync]))
  }

  /** Runs the prepared statement with parameters in text form, and waits for its commit. */
  run(parameters: ReadonlyArray<string>): Promise<void> {
    const values = parameters.flatMap((parameter) => {
      const bytes = Buffer.from(parameter)
      return [int32(bytes.length), bytes]
    })
    const bind = message("B", text(""), text("statement"), int16(0), int16(parameters.length), ...values, int16(0))
    return this.send(Buffer.concat([bind, execute, sync]))
  }

  close(): void {
    this.socket.destroy()
  }

  private send(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
      this.socket.write(bytes)
    })
  }

  private onData(chunk: Buffer): void {
    let bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    while (bytes.length >= 5) {
      const length = bytes.readInt32BE(1) + 1
      if (bytes.length < length) break
      if (bytes[0] === errorResponse) this.error = new Error(bytes.toString("utf8", 5, length).replaceAll("\0", " "))
      if (bytes[0] === readyForQuery) this.finish()
      bytes = bytes.subarray(length)
    }
    this.rest = bytes
  }

  private finish(): void {
    const { error, waiting } = this
    this.error = undefined
    this.waiting = undefined
    if (error === undefined) waiting?.resolve()
    else waiting?.reject(error)
  }
}
