/**
 * Clients that send invalid frames on sockets, or never read. Each frame is answered or closes the socket with a documented code, and other
 * users are not affected.
 */
import { createConnection } from "node:net"
import { assert, layer } from "@effect/vitest"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import * as MessagePack from "@greenroom/protocol/MessagePack"
import { closeCodes, type Subprotocol } from "@greenroom/protocol/SocketFrame"
import { socketMethods } from "@greenroom/protocol/SocketMethod"
import { Console, Deferred, Effect, Fiber } from "effect"
import fc from "fast-check"
import * as RawSocket from "../support/RawSocket.ts"
import { type Person, roomOf, type Scene, Stage } from "../support/Scene.ts"
import { seed } from "../support/Seed.ts"

const runs = Number(process.env.GREENROOM_FUZZ_RUNS ?? 150)

const documentedCodes: ReadonlyArray<number> = Object.values(closeCodes)

/** Values for the keys of requests, valid and invalid. */
const value = (room: string, person: Person): fc.Arbitrary<unknown> =>
  fc.oneof(
    fc.constantFrom<unknown>(
      room,
      person.userId,
      "m.room.message",
      "END",
      "START",
      "b",
      0,
      -1,
      1e300,
      "",
      null,
      true,
      []
    ),
    fc.constant({ msgtype: "m.text", body: "Hello" }),
    fc.string({ unit: "binary", maxLength: 20 }),
    fc.jsonValue({ maxDepth: 3 })
  )

/** Frames that are, or resemble, requests. */
const requests = (room: string, person: Person): fc.Arbitrary<unknown> => {
  const keys = [...new Set(Object.values(socketMethods).flatMap(({ fields }) => Object.keys(fields)))]
  return fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record(
        {
          id: fc.oneof(
            fc.nat(),
            fc.string({ maxLength: 5 }),
            fc.constantFrom<unknown>(null, -1.5, {}, "i".repeat(300))
          ),
          method: fc.oneof(
            { weight: 9, arbitrary: fc.constantFrom<string>(...Object.keys(socketMethods)) },
            { weight: 1, arbitrary: fc.constantFrom<unknown>("toString", "__proto__", "", 1, null, "nothing") }
          ),
          params: fc.oneof(
            {
              weight: 9,
              arbitrary: fc.dictionary(fc.constantFrom(...keys, "__proto__"), value(room, person), { maxKeys: 6 })
            },
            { weight: 1, arbitrary: value(room, person) }
          )
        },
        { requiredKeys: [] }
      )
    },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) }
  )
}

/** Encoded frames, some of them damaged. */
const frames = (subprotocol: Subprotocol, room: string, person: Person): fc.Arbitrary<string | Uint8Array> =>
  subprotocol === "m.json"
    ? fc.oneof(
        { weight: 6, arbitrary: requests(room, person).map((frame) => JSON.stringify(frame)) },
        { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 30 }).map((text) => text.toWellFormed()) },
        { weight: 1, arbitrary: fc.constantFrom("", "{", "[".repeat(50_000), '{"id":1', '{"id": 1e999}', "\0") }
      )
    : fc.oneof(
        { weight: 6, arbitrary: requests(room, person).map((frame) => MessagePack.encode(frame)) },
        { weight: 2, arbitrary: fc.uint8Array({ maxLength: 60 }) },
        {
          weight: 1,
          arbitrary: fc
            .tuple(requests(room, person), fc.nat(100), fc.nat(255))
            .map(([frame, at, byte]) => MessagePack.encode(frame).with(at % MessagePack.encode(frame).length, byte))
        }
      )

const isAnswer = (frame: { readonly [key: string]: unknown }): boolean => {
  if ("chunk" in frame || "result" in frame) return true
  const { errcode, error } = (frame.error ?? {}) as { readonly errcode?: unknown; readonly error?: unknown }
  return typeof errcode === "string" && typeof error === "string" && !/\n\s+at |node_modules/.test(error)
}

/** Sends frames one after the other, and waits until each is answered or the socket is closed. */
const sendAll = (scene: Scene, person: Person, subprotocol: Subprotocol, all: ReadonlyArray<string | Uint8Array>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const socket = yield* RawSocket.open(scene.gateway.url, { token: person.token, subprotocol })
      const answered = Effect.gen(function* () {
        for (const frame of all) {
          yield* socket.sendRaw(frame as Uint8Array<ArrayBuffer>)
          while (true) {
            const next = yield* socket.next
            if (!isAnswer(next)) throw new Error(`Not an answer: ${JSON.stringify(next).slice(0, 300)}`)
            if (next.error?.error === "Internal server error") throw new Error("A method failed with an internal error")
            if (!("chunk" in next)) break
          }
        }
        return undefined
      })
      const code = yield* Effect.raceFirst(answered, socket.closed)
      if (code !== undefined && !documentedCodes.includes(code)) throw new Error(`Closed with ${code}`)
    })
  )

/** A client that stops reading after the handshake. `resume` reads until data arrives or the socket is closed. */
interface StalledClient {
  readonly resume: Effect.Effect<void>
  readonly destroy: () => void
}

const handshake = (host: string, token: string) =>
  `GET ${clientPrefix}/socket?access_token=${token} HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\n` +
  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
  "Sec-WebSocket-Protocol: m.json\r\n\r\n"

const connectStalled = (url: string, token: string) =>
  Effect.acquireRelease(
    Effect.callback<StalledClient>((complete) => {
      const { host, hostname, port } = new URL(url)
      const socket = createConnection({ host: hostname, port: Number(port) })
      const active = Deferred.makeUnsafe<void>()
      const onActive = () => Deferred.doneUnsafe(active, Effect.void)
      socket.on("error", onActive).on("close", onActive)
      socket.once("connect", () => socket.write(handshake(host, token)))
      socket.once("data", () => {
        socket.pause()
        const resume = Effect.suspend(() => {
          socket.on("data", onActive).resume()
          return Deferred.await(active)
        })
        complete(Effect.succeed({ resume, destroy: () => socket.destroy() }))
      })
    }),
    ({ destroy }) => Effect.sync(destroy)
  )

layer(Stage.layer(), { excludeTestServices: true })("SocketFuzz", (it) => {
  for (const subprotocol of ["m.json", "m.msgpack"] as const) {
    it.effect(`every frame is answered, or closes the socket with a documented code (${subprotocol})`, () =>
      Effect.gen(function* () {
        yield* Console.log(`SocketFuzz: seed ${seed}`)
        const scene = yield* Stage
        const person = yield* scene.register(`fuzzer.${subprotocol}`)
        const room = yield* roomOf(person)
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(fc.array(frames(subprotocol, room, person), { minLength: 1, maxLength: 15 }), (all) =>
              Effect.runPromise(sendAll(scene, person, subprotocol, all))
            ),
            { seed, numRuns: runs, interruptAfterTimeLimit: 60_000 }
          )
        )
        assert.notInclude(scene.gateway.output(), "Internal error while answering")
        assert.strictEqual((yield* scene.ask("GET", "//health")).body.ok, true)
      })
    )
  }

  it.effect("clients that stop reading delay no others, and are disconnected or catch up when they resume", () =>
    Effect.gen(function* () {
      const scene = yield* Stage
      const [alice, bob] = [yield* scene.register("alice"), yield* scene.register("bob")]
      const room = yield* roomOf(alice, bob)
      const stalled = yield* Effect.forEach(Array.from({ length: 10 }), () =>
        connectStalled(scene.gateway.url, bob.token)
      )
      const reader = yield* RawSocket.open(scene.gateway.url, { token: bob.token })
      const count = 200
      const reading = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: count }), (_, index) =>
          reader.event(({ content, type }) => type === "m.room.message" && content.number === index)
        )
      )
      const body = "z".repeat(40_000)
      for (let number = 0; number < count; number++) {
        const { status } = yield* alice.ask("POST", `/rooms/${encodeURIComponent(room)}/send/m.room.message`, {
          msgtype: "m.text",
          body,
          number
        })
        assert.strictEqual(status, 200)
      }
      assert.lengthOf(yield* Fiber.join(reading), count)
      for (const { resume } of stalled) yield* resume
      assert.strictEqual((yield* scene.ask("GET", "//health")).body.ok, true)
    })
  )
})
