/** A TCP proxy in front of a server, which can be taken down to cut the server off. */
import { connect, createServer, type Server, type Socket } from "node:net"

export class Link {
  private readonly sockets = new Set<Socket>()
  private server: Server | undefined
  private readonly port: number
  private readonly target: number

  /** Accepts at `port`, and forwards to `target`. Both are ports of 127.0.0.1. */
  constructor(port: number, target: number) {
    this.port = port
    this.target = target
  }

  readonly up = (): Promise<void> =>
    new Promise((resolve, reject) => {
      this.server = createServer((inbound) => this.forward(inbound))
      this.server.once("error", reject)
      this.server.listen(this.port, "127.0.0.1", resolve)
    })

  /** Ends every connection and refuses new ones. */
  readonly down = (): Promise<void> =>
    new Promise((resolve) => {
      for (const socket of this.sockets) socket.destroy()
      if (this.server === undefined) resolve()
      else this.server.close(() => resolve())
      this.server = undefined
    })

  private forward(inbound: Socket): void {
    const outbound = connect(this.target, "127.0.0.1")
    for (const [socket, other] of [
      [inbound, outbound],
      [outbound, inbound]
    ] as const) {
      this.sockets.add(socket)
      socket.on("error", () => other.destroy())
      socket.on("close", () => {
        this.sockets.delete(socket)
        other.destroy()
      })
    }
    inbound.pipe(outbound)
    outbound.pipe(inbound)
  }
}
