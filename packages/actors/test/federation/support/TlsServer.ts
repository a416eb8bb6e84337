/**
 * A real HTTPS server on this machine that answers as the test says, with a certificate of the test's own authority.
 */
import { createServer as createHttpsServer } from "node:https"
import type { AddressInfo } from "node:net"
import type { Duplex } from "node:stream"
import type { TLSSocket } from "node:tls"
import { Effect } from "effect"
import { generate } from "selfsigned"

export interface Seen {
  readonly method: string
  readonly path: string
  readonly host: string | undefined
  /** The name that the client asked for in the TLS handshake. */
  readonly tlsServerName: string | false | null
}

export interface Reply {
  readonly status?: number
  readonly body: string | Buffer
  readonly headers?: { readonly [name: string]: string }
  /** The body is followed by silence instead of its end. */
  readonly isUnfinished?: boolean
}

/** Undefined: no answer, ever. `bodyBytes` are those that the request says to have in its body. */
export type Handler = (seen: Seen, bodyBytes: number) => Reply | undefined

const names = ["example.org", "localhost"]
const addresses = ["127.0.0.1", "::1"]

/** An authority, and a certificate of it for `example.org`, `localhost` and the loopback addresses. */
export const certificates = Effect.promise(async () => {
  const authority = await generate([{ name: "commonName", value: "Test authority" }], {
    keyType: "ec",
    algorithm: "sha256",
    extensions: [{ name: "basicConstraints", cA: true }]
  })
  const server = await generate([{ name: "commonName", value: "example.org" }], {
    keyType: "ec",
    algorithm: "sha256",
    ca: { key: authority.private, cert: authority.cert },
    extensions: [
      {
        name: "subjectAltName",
        altNames: [
          ...names.map((value) => ({ type: 2 as const, value })),
          ...addresses.map((ip) => ({ type: 7 as const, ip }))
        ]
      }
    ]
  })
  return { authority: authority.cert, credentials: { cert: server.cert, key: server.private } }
})

export const tlsServer = Effect.fnUntraced(function* (handler: Handler, address = "127.0.0.1") {
  const { authority, credentials } = yield* certificates
  const requests: Array<Seen> = []
  const sockets = new Set<Duplex>()
  const state = { connections: 0 }
  const server = createHttpsServer(credentials, (request, response) => {
    const seen: Seen = {
      method: request.method ?? "",
      path: request.url ?? "",
      host: request.headers.host,
      tlsServerName: (request.socket as TLSSocket & { readonly servername: string | false | null }).servername
    }
    requests.push(seen)
    const reply = handler(seen, Number(request.headers["content-length"] ?? 0))
    if (reply === undefined) return
    response.writeHead(reply.status ?? 200, reply.headers)
    if (reply.isUnfinished === true) response.write(reply.body)
    else response.end(reply.body)
  })
  server.on("secureConnection", () => {
    state.connections++
  })
  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
  })
  const drop = Effect.sync(() => {
    for (const socket of sockets) socket.destroy()
  })
  const close = Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
    for (const socket of sockets) socket.destroy()
  })
  const port = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, address, () => resume(Effect.succeed((server.address() as AddressInfo).port)))
    }),
    () => close
  )
  return { port, authority, requests, state, drop, close }
})
