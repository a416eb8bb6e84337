/**
 * Several nodes of one home server behind one address, for tests that are written for one process. With the environment variable
 * `GREENROOM_TEST_NODES=3`, `Stage`, `restartable` and the first home server of a `Network` have three nodes, and each request goes to the
 * next one, as does each connection to the federation port.
 */
import * as http from "node:http"
import * as net from "node:net"
import { freePorts } from "@greenroom/store/testing/FreePort"
import { Effect, type Scope } from "effect"
import * as Spread from "../cluster/support/Spread.ts"
import * as GatewayProcess from "./GatewayProcess.ts"

/** How many nodes `start` starts. */
export const count = Number(process.env.GREENROOM_TEST_NODES ?? 1)

/** Closes the server and its connections, WebSockets too. Returns when the port is free. */
const closed = (server: http.Server) =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.emit("end connections")
    server.closeAllConnections()
  })

/** Forwards each request and each WebSocket to the next of the ports. Returns its own port and an effect that closes it. */
const spread = (port: number, nodes: ReadonlyArray<number>) =>
  Effect.acquireRelease(
    Effect.callback<http.Server>((resume) => {
      let turn = 0
      const next = () => nodes[turn++ % nodes.length]!
      const server = http.createServer((request, response) => {
        const { headers, method, url: path } = request
        // A new connection: the node may be closing one that is kept alive.
        const passed = http.request(
          { agent: false, host: "127.0.0.1", port: next(), method, path, headers },
          (answer) => {
            response.writeHead(answer.statusCode!, answer.rawHeaders)
            answer.pipe(response)
          }
        )
        passed.once("error", () => response.destroy())
        response.once("close", () => passed.destroy())
        request.pipe(passed)
      })
      server.on("upgrade", ({ headers: _, method, rawHeaders, url }, socket, head) => {
        const lines = rawHeaders.map((text, index) => (index % 2 === 0 ? `${text}: ` : `${text}\r\n`))
        const passed = net.connect(next(), "127.0.0.1", () => {
          passed.write(`${method} ${url} HTTP/1.1\r\n${lines.join("")}\r\n`)
          passed.write(head)
          socket.pipe(passed).pipe(socket)
        })
        for (const end of [socket, passed]) end.on("error", () => end.destroy())
        server.once("end connections", () => socket.destroy())
        socket.once("close", () => passed.destroy())
        passed.once("close", () => socket.destroy())
      })
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    closed
  ).pipe(Effect.map((server) => ({ port: (server.address() as net.AddressInfo).port, close: closed(server) })))

/** As `GatewayProcess.start`, on a database that is given. */
export const start: (
  options: GatewayProcess.GatewayOptions
) => Effect.Effect<GatewayProcess.GatewayProcess, never, Scope.Scope> = Effect.fnUntraced(function* (options) {
  if (count === 1) return yield* GatewayProcess.start(options)
  const federationPort = Number(options.environment?.GREENROOM_FEDERATION_PORT ?? 0)
  const ports = yield* freePorts(2 * count)
  const [clusterPorts, federationPorts] = [ports.slice(0, count), ports.slice(count)]
  const nodes = yield* Effect.forEach(
    clusterPorts,
    (clusterPort, index) =>
      GatewayProcess.start({
        ...options,
        port: 0,
        environment: {
          ...options.environment,
          GREENROOM_CLUSTER: "true",
          GREENROOM_CLUSTER_PORT: `${clusterPort}`,
          GREENROOM_FEDERATION_PORT: `${federationPort === 0 ? 0 : federationPorts[index]}`
        }
      }),
    { concurrency: "unbounded" }
  )
  if (federationPort !== 0) {
    yield* Spread.start(
      federationPorts.map((port) => ({ host: "127.0.0.1", port })),
      federationPort
    )
  }
  const all = { concurrency: "unbounded" } as const
  const { close, port } = yield* spread(
    options.port ?? 0,
    nodes.map((node) => node.port)
  )
  return {
    ...nodes[0]!,
    url: `http://127.0.0.1:${port}`,
    port,
    output: () => nodes.map(({ output }) => output()).join(""),
    pause: Effect.forEach(nodes, ({ pause }) => pause, { discard: true }),
    resume: Effect.forEach(nodes, ({ resume }) => resume, { discard: true }),
    kill: Effect.andThen(
      Effect.forEach(nodes, ({ kill }) => kill, { ...all, discard: true }),
      close
    ),
    stop: Effect.tap(
      Effect.map(
        Effect.forEach(nodes, ({ stop }) => stop, all),
        (codes) => codes.find((code) => code !== 0) ?? 0
      ),
      close
    )
  }
})
