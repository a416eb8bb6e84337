/** Messages between nodes by links: two nodes on real connections, which are cut. */
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import type * as net from "node:net"
import * as tls from "node:tls"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Layer, Schema, type Scope } from "effect"
import { RunnerAddress, ShardId } from "effect/cluster"
import { Rpc, RpcSerialization } from "effect/rpc"
import { TestClock } from "effect/testing"
import type { Handled } from "../../src/runtime/internal/Actors.ts"
import { NodeLinks } from "../../src/runtime/internal/NodeLinks.ts"
import { Receivers } from "../../src/runtime/internal/RemoteActors.ts"

/** A turn of the event loop. */
const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

const psk = randomBytes(32)
const options = { minVersion: "TLSv1.2", maxVersion: "TLSv1.2", ciphers: "ECDHE-PSK-CHACHA20-POLY1305" } as const
const ALPNProtocols = [NodeLinks.protocol]

const connect = ({ host, port }: { readonly host: string; readonly port: number }) =>
  Effect.acquireRelease(
    Effect.callback<tls.TLSSocket, Error>((resume) => {
      const socket = tls.connect({
        ...options,
        host,
        port,
        ALPNProtocols,
        pskCallback: () => ({ psk, identity: "test" }),
        checkServerIdentity: () => undefined
      })
      socket.once("secureConnect", () => resume(Effect.succeed(socket)))
      socket.on("error", (error) => resume(Effect.fail(error)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const node = Layer.build(
  Layer.fresh(
    NodeLinks.layer(connect).pipe(Layer.provideMerge(Receivers.layer), Layer.provide(RpcSerialization.layerNdjson))
  )
)

const Say = Rpc.make("Say", { payload: { text: Schema.String }, success: Schema.String, error: Schema.String })
const shard = ShardId.make("default", 1)

/** A port on which something listens, and the connections to it. */
const listening = Effect.fnUntraced(function* (serve: (socket: tls.TLSSocket) => void, port = 0) {
  const connections = new Set<net.Socket>()
  const server = tls.createServer({ ...options, ALPNProtocols, pskCallback: () => psk }, serve)
  server.on("connection", (socket: net.Socket) => {
    connections.add(socket)
    socket.once("close", () => connections.delete(socket))
  })
  server.on("tlsClientError", () => undefined)
  const cut = () => {
    for (const socket of connections) socket.destroy()
  }
  const close = Effect.promise(async () => {
    cut()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  })
  yield* Effect.addFinalizer(() => close)
  yield* Effect.promise(() => once(server.listen(port, "127.0.0.1"), "listening"))
  return { port: (server.address() as net.AddressInfo).port, cut, close, connections }
})

/** Two nodes: one sends messages to an actor of the other, which notes them and answers with `answer`. */
const scene = Effect.gen(function* () {
  const context = yield* Effect.context<Scope.Scope>()
  const here = Context.get(yield* node, NodeLinks)
  const other = yield* node
  const { serve } = Context.get(other, NodeLinks)
  const heard: Array<string> = []
  const actor = { holds: true, answer: (text: string): Handled => Effect.succeed(text.toUpperCase()) }
  Context.get(other, Receivers).set("Echo", {
    rpcs: new Map([["Say", Say as unknown as Rpc.AnyWithProps]]),
    holds: () => actor.holds,
    receive: (_id, _tag, payload) => {
      const { text } = payload as { readonly text: string }
      heard.push(text)
      return actor.answer(text)
    }
  })
  const listen = (port?: number) => listening((socket) => Effect.runForkWith(context)(serve(socket)), port)
  const server = yield* listen()
  const address = RunnerAddress.make("127.0.0.1", server.port)
  here.answered(shard, address)
  const say = (text: string, within = 30_000): Handled | undefined =>
    here.ask({
      shard,
      type: "Echo",
      id: "one",
      rpc: Say as unknown as Rpc.AnyWithProps,
      payload: { text },
      within,
      expiresIn: 9000,
      otherwise: (isUnanswered) => Effect.succeed(isUnanswered ? "unanswered" : "elsewhere")
    })
  /** Waits for the link. */
  const linked = (text: string): Handled => Effect.suspend(() => say(text) ?? Effect.andThen(turn, linked(text)))
  return { actor, address, heard, here, linked, listen, say, server }
})

describe("links between nodes", () => {
  it.effect("messages arrive in their order, and answers come as they are ready", () =>
    Effect.gen(function* () {
      const { actor, heard, linked, say } = yield* scene
      assert.strictEqual(yield* linked("first"), "FIRST")
      const slow = Deferred.makeUnsafe<string>()
      actor.answer = (text) => (text === "0" ? Deferred.await(slow) : Effect.succeed(text))
      const texts = Array.from({ length: 500 }, (_, index) => String(index))
      const answers = Effect.forEach(
        texts,
        (text) =>
          Effect.tap(say(text)!, (answer) => (answer === "499" ? Deferred.succeed(slow, "at last") : Effect.void)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* answers, ["at last", ...texts.slice(1)])
      assert.deepStrictEqual(heard, ["first", ...texts])
    })
  )

  it.effect("failures and defects of an actor are its answers", () =>
    Effect.gen(function* () {
      const { actor, linked } = yield* scene
      actor.answer = () => Effect.fail("no")
      assert.strictEqual(yield* Effect.flip(linked("a")), "no")
      actor.answer = () => Effect.die(new Error("broken"))
      assert.isTrue((yield* Effect.exit(linked("b")))._tag === "Failure")
      actor.answer = () => Effect.succeed("well")
      assert.strictEqual(yield* linked("c"), "well")
    })
  )

  it.effect("a message for an actor that has moved is sent by another route, and so are later ones", () =>
    Effect.gen(function* () {
      const { actor, address, heard, here, linked, say } = yield* scene
      yield* linked("a")
      actor.holds = false
      assert.strictEqual(yield* say("b")!, "elsewhere")
      assert.isUndefined(say("c"))
      actor.holds = true
      here.answered(shard, address)
      assert.strictEqual(yield* say("d")!, "D")
      assert.deepStrictEqual(heard, ["a", "d"])
    })
  )

  it.effect(
    "where the connection is lost, messages without answer are known as such, and the next connection serves",
    () =>
      Effect.gen(function* () {
        const { actor, heard, linked, say, server } = yield* scene
        yield* linked("a")
        actor.answer = (text) =>
          text === "b" ? Effect.sync(server.cut).pipe(Effect.andThen(Effect.never)) : Effect.succeed(text)
        const both = yield* Effect.all([say("b")!, say("c")!], { concurrency: "unbounded" })
        assert.deepStrictEqual(both, ["unanswered", "unanswered"])
        assert.strictEqual(yield* linked("d"), "d")
        assert.deepStrictEqual(
          heard.filter((text) => text !== "c"),
          ["a", "b", "d"]
        )
      })
  )

  it.effect("messages for a lost node are sent by another route, and by a link again when the node is back", () =>
    Effect.gen(function* () {
      const { heard, linked, listen, say, server } = yield* scene
      yield* linked("a")
      yield* server.close
      while (say("b") !== undefined) yield* turn
      yield* listen(server.port)
      let asked = say("c")
      for (; asked === undefined; asked = say("c")) yield* Effect.andThen(TestClock.adjust("1 second"), turn)
      assert.strictEqual(yield* asked, "C")
      assert.deepStrictEqual(heard, ["a", "c"])
    })
  )

  it.effect("the link to a node that leaves is closed, and opened again when the node has answered", () =>
    Effect.gen(function* () {
      const { address, here, linked, say, server } = yield* scene
      yield* linked("a")
      here.lost(address)
      while (server.connections.size > 0) yield* turn
      assert.isUndefined(say("b"))
      yield* TestClock.adjust("1 hour")
      for (let i = 0; i < 100; i++) yield* turn
      assert.strictEqual(server.connections.size, 0)
      here.answered(shard, address)
      assert.strictEqual(yield* linked("c"), "C")
    })
  )

  it.effect("a truncated message is not handled, and malformed data ends only its own connection", () =>
    Effect.gen(function* () {
      const { address, heard, linked } = yield* scene
      yield* linked("a")
      for (const part of ['[[0,"Echo","default",1,"one","Say",{"text":"half"}]', "no JSON\n"]) {
        const socket = yield* Effect.orDie(connect(address))
        const closed = once(socket, "close")
        socket.resume()
        socket.end(part)
        yield* Effect.promise(() => closed)
      }
      assert.strictEqual(yield* linked("b"), "B")
      assert.deepStrictEqual(heard, ["a", "b"])
    })
  )

  it.live(
    "a node that reads and never answers is given up",
    () =>
      Effect.gen(function* () {
        const here = Context.get(yield* node, NodeLinks)
        const silent = yield* listening((socket) => socket.resume())
        here.answered(shard, RunnerAddress.make("127.0.0.1", silent.port))
        const ask = (): Handled | undefined =>
          here.ask({
            shard,
            type: "Echo",
            id: "one",
            rpc: Say as unknown as Rpc.AnyWithProps,
            payload: { text: "are you there" },
            within: 60_000,
            expiresIn: 9000,
            otherwise: (isUnanswered) => Effect.succeed(isUnanswered ? "unanswered" : "elsewhere")
          })
        let asked = ask()
        for (; asked === undefined; asked = ask()) yield* turn
        assert.strictEqual(yield* asked, "unanswered")
      }),
    20_000
  )

  it.live("an answer that takes too long is a node that is not available", () =>
    Effect.gen(function* () {
      const { actor, linked, say } = yield* scene
      yield* linked("a")
      actor.answer = () => Effect.never
      const exit = yield* Effect.exit(say("b", 10)!)
      assert.match(String(exit), /does not answer/)
    })
  )
})
