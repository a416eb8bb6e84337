import { get } from "node:http"
import { json } from "node:stream/consumers"
import { assert, describe, it } from "@effect/vitest"
import { closeCodes } from "@greenroom/protocol/SocketFrame"
import { Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { Gateway } from "../src/Gateway.ts"
import { unlimited } from "../src/Rate.ts"
import { connect } from "./socket/TestSocket.ts"
import {
  ask,
  type Body,
  createRoom,
  gateway,
  gatewayWith,
  inPath,
  prefix,
  register,
  type TestUser
} from "./TestGateway.ts"

/** Sends a long poll. Returns an effect that waits for its answer. */
const startPoll = Effect.fnUntraced(function* (user: TestUser, from: string) {
  const { url } = yield* Gateway
  const request = get(`${url}${prefix}/events?from=${from}&timeout=60000&access_token=${user.token}`)
  const answer = new Promise<{ readonly status: number | undefined; readonly body: Body }>((resolve) => {
    request.once("response", (response) => {
      json(response).then((body) => resolve({ status: response.statusCode, body: body as Body }))
    })
  })
  yield* Effect.callback<void>((resume) => {
    request.once("finish", () => resume(Effect.void))
  })
  return Effect.promise(() => answer)
})

describe("Gateway", () => {
  it.live(`answers long polls and closes sockets with "going away" on shutdown`, () =>
    Effect.gen(function* () {
      const running = yield* Scope.make()
      const context = yield* Layer.buildWithScope(gateway, running)
      yield* Effect.gen(function* () {
        const alice = yield* register("alice")
        const bob = yield* register("bob")
        const socket = yield* connect(bob, "m.json")
        const { body: online } = yield* ask("GET", "/events?from=START", { token: alice.token })
        const poll = yield* startPoll(alice, online.end)
        assert.strictEqual((yield* ask("GET", "//health")).status, 200)
        const closed = yield* Effect.forkChild(socket.closed, { startImmediately: true })
        yield* Scope.close(running, Exit.void)
        const answer = yield* poll
        assert.strictEqual(answer.status, 200)
        assert.strictEqual(answer.body.start, online.end)
        assert.strictEqual((yield* Fiber.join(closed)).code, closeCodes.goingAway)
      }).pipe(Effect.provideContext(context), Effect.scoped)
      const { url } = Context.get(context, Gateway)
      const refused = yield* Effect.exit(Effect.tryPromise(() => fetch(`${url}/health`)))
      assert.isTrue(Exit.isFailure(refused))
    })
  )

  it.live("refuses to start on a port that is in use", () =>
    Effect.gen(function* () {
      const first = yield* Layer.build(gateway)
      const { port } = Context.get(first, Gateway)
      const second = yield* Effect.flip(Layer.build(Layer.fresh(gatewayWith({ port }))))
      assert.strictEqual(second._tag, "ListenError")
      assert.propertyVal(second, "code", "EADDRINUSE")
    }).pipe(Effect.scoped)
  )

  it.live("tells a client that is over its rate when to retry", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room = yield* createRoom(alice)
      const send = ask("POST", `/rooms/${inPath(room)}/send/m.room.message`, {
        token: alice.token,
        json: { msgtype: "m.text", body: "hello" }
      })
      assert.strictEqual((yield* send).status, 200)
      const refused = yield* send
      assert.strictEqual(refused.status, 429)
      assert.strictEqual(refused.body.errcode, "M_LIMIT_EXCEEDED")
      assert.isAbove(refused.body.retry_after_ms, 0)
      assert.isAbove(Number(refused.headers.get("retry-after")), 0)
      assert.strictEqual((yield* ask("GET", "/initialSync", { token: alice.token })).status, 200)
    }).pipe(Effect.provide(gatewayWith({ rates: { ...unlimited, sends: { limit: 2, window: 600_000 } } })))
  )

  it.live("limits guesses of a password for each account", () =>
    Effect.gen(function* () {
      yield* register("alice")
      yield* register("bob")
      const login = (user: string, password: string) =>
        ask("POST", "/login", { json: { type: "m.login.password", user, password } })
      assert.strictEqual((yield* login("alice", "wrong")).status, 403)
      assert.strictEqual((yield* login("alice", "wrong")).status, 429)
      assert.strictEqual((yield* login("bob", "secret-bob")).status, 200)
    }).pipe(Effect.provide(gatewayWith({ rates: { ...unlimited, logins: { limit: 1, window: 600_000 } } })))
  )

  it.live("counts requests behind a trusted proxy by the address of the client", () =>
    Effect.gen(function* () {
      const anonymous = (client: string) => ask("GET", "/publicRooms", { headers: { "x-forwarded-for": client } })
      assert.strictEqual((yield* anonymous("192.0.2.1")).status, 200)
      assert.strictEqual((yield* anonymous("192.0.2.1")).status, 429)
      assert.strictEqual((yield* anonymous("192.0.2.2")).status, 200)
    }).pipe(
      Effect.provide(
        gatewayWith({
          trustedProxies: ["127.0.0.1"],
          rates: { ...unlimited, anonymous: { limit: 1, window: 600_000 } }
        })
      )
    )
  )

  it.live("counts sockets behind a trusted proxy by the address of the client", () =>
    Effect.gen(function* () {
      const refusal = (client: string) =>
        Effect.flip(connect({ token: "none" }, "m.json", "", { headers: { "x-forwarded-for": client } }))
      assert.strictEqual((yield* refusal("192.0.2.1")).status, 401)
      assert.strictEqual((yield* refusal("192.0.2.1")).status, 429)
      assert.strictEqual((yield* refusal("192.0.2.2")).status, 401)
      assert.strictEqual((yield* refusal("192.0.2.9, 192.0.2.1, 127.0.0.1")).status, 429)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        gatewayWith({
          trustedProxies: ["127.0.0.1"],
          rates: { ...unlimited, anonymous: { limit: 1, window: 600_000 } }
        })
      )
    )
  )
})
