/**
 * How nodes reach each other: Effect's cluster over sockets, with eight differences.
 *
 * - Connections are TLS with a pre-shared key: a secret of the database. Hosts without it can neither connect nor read, and no
 *   certificates are needed.
 * - Effect sends a message again without limit where the node was lost before it answered. Messages that may not be handled
 *   twice (`MayRepeat`) fail instead.
 * - A node that does not answer a ping counts as lost after some seconds; with Effect it may take a minute (`NodeHealth`).
 * - Messages are sent in batches (`Deliveries`).
 * - Messages for actors of the node go straight to them (`Receivers`).
 * - Messages to a shard whose node is known go to it by a link, past Effect's bookkeeping (`NodeLinks`).
 * - What is written to a connection in one turn of the event loop is one record of TLS and one call of the system.
 * - Messages are JSON: nodes of two versions understand each other where one of them knows a field more.
 */
import type { Duplex } from "node:stream"
import * as tls from "node:tls"
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { Clock, Context, Duration, Effect, Exit, Layer, Option, Redacted, Scope } from "effect"
import {
  type MessageStorage,
  Reply,
  type RunnerStorage,
  Runners,
  Sharding,
  ShardingConfig,
  Snowflake
} from "effect/cluster"
import { RpcClient, RpcSerialization, RpcServer } from "effect/rpc"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { NodeUnavailable } from "../NodeUnavailable.ts"
import { MayRepeat } from "../Repetition.ts"
import * as Deliveries from "./Deliveries.ts"
import * as NodeHealth from "./NodeHealth.ts"
import { NodeLinks } from "./NodeLinks.ts"
import * as Receiving from "./Receivers.ts"
import { Receivers } from "./RemoteActors.ts"
import * as RunningTime from "./RunningTime.ts"

/** The largest message, in bytes: the state of a large room. */
const maxMessageBytes = 256 * 1024 * 1024

type Send = Runners.Runners["Service"]["send"]

/** Answers messages that may not be sent again with a defect. */
const withoutDoubling =
  (send: Send, snowflakes: Snowflake.Generator["Service"]): Send =>
  ({ address, message }) =>
    Effect.catchTag(send({ address, message }), "RunnerUnavailable", (error) => {
      if (message._tag !== "OutgoingRequest") return Effect.fail(error)
      const { payload, requestId } = message.envelope
      if (Context.get(message.annotations, MayRepeat)(payload as never)) return Effect.fail(error)
      const lost = new NodeUnavailable(`The node at ${address.host}:${address.port} was lost before it answered`)
      return message.respond(new Reply.WithExit({ id: snowflakes.nextUnsafe(), requestId, exit: Exit.die(lost) }))
    })

const runners = Layer.effect(
  Runners.Runners,
  Effect.gen(function* () {
    const rpc = yield* Runners.makeRpc
    const snowflakes = yield* Snowflake.Generator
    const links = yield* NodeLinks
    const deliver = yield* Deliveries.makeSend(rpc.send)
    const send: Send = ({ address, message }) =>
      Effect.tap(deliver.send({ address, message }), () =>
        Effect.sync(() => links.answered(message.envelope.address.shardId, address))
      )
    return Runners.Runners.of({
      ...rpc,
      send: withoutDoubling(send, snowflakes),
      onRunnerUnavailable: (address) => {
        links.lost(address)
        return Effect.andThen(deliver.lost(address), rpc.onRunnerUnavailable(address))
      }
    })
  })
).pipe(Layer.provide(Snowflake.layerGenerator))

/**
 * Both sides prove that they know the secret, with keys of each connection's own (ECDHE). OpenSSL's callback for pre-shared keys is
 * that of TLS 1.2.
 */
const tlsOptions = Effect.gen(function* () {
  const settings = yield* ServerSettings
  const psk = Redacted.value(yield* settings.secret("cluster"))
  const version = "TLSv1.2" as const
  return { psk, options: { minVersion: version, maxVersion: version, ciphers: "ECDHE-PSK-CHACHA20-POLY1305" } }
})

/** The name that both sides use for the secret. It has no meaning. */
const identity = "greenroom"

/** Joins the writes of one turn of the event loop. */
const joinWrites = (socket: Duplex): void => {
  const write = socket.write
  let isCorked = false
  const uncork = () => {
    isCorked = false
    socket.uncork()
  }
  socket.write = (...args: ReadonlyArray<unknown>) => {
    if (!isCorked) {
      isCorked = true
      socket.cork()
      setImmediate(uncork)
    }
    return write.apply(socket, args as never)
  }
}

/**
 * After how long without a byte the system asks whether the other end of a connection is there, in ms: one to a node that was cut off is
 * closed some ten seconds later, also if nothing is sent.
 */
const keepAliveDelay = 5_000

/** For a connection whose handshake is done. */
const prepare = (socket: tls.TLSSocket): void => {
  joinWrites(socket)
  socket.setKeepAlive(true, keepAliveDelay)
}

/** How long a connection may take to open, and may be silent, in ms; as Effect has it. */
const timeouts = { openTimeout: 1_000, timeout: 5_500 }

/** A connection whose handshake is done. It ends with the scope. */
const connect = (options: tls.ConnectionOptions) =>
  Effect.acquireRelease(
    Effect.callback<tls.TLSSocket, Socket.SocketError>((resume) => {
      const socket = tls.connect(options)
      socket.once("secureConnect", () => {
        prepare(socket)
        resume(Effect.succeed(socket))
      })
      socket.on("error", (cause) =>
        resume(Effect.fail(new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })))
      )
      return Effect.sync(() => socket.destroy())
    }),
    (socket) => Effect.sync(() => socket.destroy()),
    // The system accepts connections for a process that is stopped: without its deadline the handshake would be waited for.
    { interruptible: true }
  )

const clientOptions = Effect.map(
  tlsOptions,
  ({ options, psk }): tls.ConnectionOptions => ({
    ...options,
    pskCallback: () => ({ psk, identity }),
    // There is no certificate.
    checkServerIdentity: () => undefined
  })
)

const links = Layer.unwrap(
  Effect.map(clientOptions, (options) =>
    NodeLinks.layer(({ host, port }) =>
      connect({ ...options, host, port, ALPNProtocols: [NodeLinks.protocol] }).pipe(
        Effect.timeout(timeouts.openTimeout)
      )
    )
  )
)

const clientProtocol = Layer.effect(
  Runners.RpcClientProtocol,
  Effect.gen(function* () {
    const serialization = yield* RpcSerialization.RpcSerialization
    const connectOptions = yield* clientOptions
    return {
      codecFor: serialization.codecFor,
      make: Effect.fnUntraced(function* ({ host, port }) {
        const socket = yield* NodeSocket.fromDuplex(
          connect({ ...connectOptions, timeout: timeouts.timeout, host, port }),
          { openTimeout: timeouts.openTimeout }
        )
        return yield* RpcClient.makeProtocolSocket({ pingInterval: NodeHealth.pingTimeout }).pipe(
          Effect.provideService(Socket.Socket, socket),
          Effect.provideService(RpcSerialization.RpcSerialization, serialization)
        )
      }, Effect.orDie)
    }
  })
)

const socketServer = Layer.effect(
  SocketServer.SocketServer,
  Effect.gen(function* () {
    const config = yield* ShardingConfig.ShardingConfig
    const { options, psk } = yield* tlsOptions
    const { host, port } = Option.getOrThrow(Option.orElse(config.runnerListenAddress, () => config.runnerAddress))
    const handshakes = new Set<tls.TLSSocket>()
    const pskCallback = (socket: tls.TLSSocket) => {
      handshakes.add(socket)
      socket.once("close", () => handshakes.delete(socket))
      socket.once("secure", () => {
        handshakes.delete(socket)
        prepare(socket)
      })
      return psk
    }
    const scope = yield* Scope.make()
    const server = yield* NodeSocketServer.makeTls({
      ...options,
      host,
      port,
      pskCallback,
      handshakeTimeout: timeouts.timeout,
      ALPNProtocols: [NodeLinks.protocol]
    }).pipe(Scope.provide(scope))
    // Effect's server waits for connections that it does not know: those whose handshake goes on when it closes, since other nodes
    // connect again at once. So its end is not waited for, once it does not listen any more.
    yield* Effect.addFinalizer((exit) =>
      Effect.andThen(
        Effect.forkDetach(Scope.close(scope, exit), { startImmediately: true }),
        Effect.sync(() => handshakes.forEach((socket) => void socket.destroy()))
      )
    )
    const { serve } = yield* NodeLinks
    return SocketServer.SocketServer.of({
      ...server,
      run: (handler) =>
        server.run((socket) =>
          Effect.flatMap(Effect.serviceOption(NodeSocket.NetSocket), (connection) =>
            Option.isSome(connection) && (connection.value as tls.TLSSocket).alpnProtocol === NodeLinks.protocol
              ? serve(connection.value)
              : handler(socket)
          )
        )
    })
  })
)

/** Answers are not acknowledged: they come as they are ready, and are few. */
const serverProtocol = Layer.effect(
  RpcServer.Protocol,
  Effect.map(RpcServer.Protocol, (protocol) => RpcServer.Protocol.of({ ...protocol, supportsAck: false }))
).pipe(Layer.provide(RpcServer.layerProtocolSocketServer))

/** How long Effect waits between two attempts to take shards, and how long it does here, in ms: a constant in `Sharding`. */
const effectAttempts = 1_000
const attempts = 250

/** Effect's engine, which takes shards that another node gives back a quarter of a second later at most, instead of a second. */
const sharding = Layer.unwrap(
  Effect.map(Clock.Clock, (clock) =>
    Sharding.layer.pipe(
      Layer.provide(
        Layer.succeed(
          Clock.Clock,
          RunningTime.withSleep(clock, (duration) =>
            clock.sleep(Duration.toMillis(duration) === effectAttempts ? Duration.millis(attempts) : duration)
          )
        )
      )
    )
  )
)

/** Effect's `Sharding`, over sockets to other nodes. */
export const layer: Layer.Layer<
  Sharding.Sharding | Receivers | NodeLinks,
  SocketServer.SocketServerError,
  ShardingConfig.ShardingConfig | ServerSettings | MessageStorage.MessageStorage | RunnerStorage.RunnerStorage
> = Receiving.layer.pipe(
  Layer.provideMerge(sharding),
  Layer.provide(NodeHealth.layer),
  Layer.provide(runners),
  Layer.provide(serverProtocol),
  Layer.provide([socketServer, clientProtocol]),
  Layer.provideMerge(links),
  Layer.provideMerge(Receivers.layer),
  Layer.provide(RpcSerialization.layerNdjsonWith({ maxBufferSize: maxMessageBytes }))
)
