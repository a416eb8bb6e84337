import { subscribe, unsubscribe } from "node:diagnostics_channel"
import type { IncomingMessage } from "node:http"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { setImmediate } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Layer, Stream } from "effect"
import type { HttpIncomingMessage } from "effect/http"
import { AppServiceClient, endpoints } from "../../src/app-service/AppServiceClient.ts"
import type { AppService } from "../../src/app-service/AppServices.ts"
import { FederationConfig } from "../../src/federation/FederationConfig.ts"
import { IdentityClient } from "../../src/identity/IdentityClient.ts"
import { answerText } from "../../src/runtime/AnswerText.ts"
import { Departure } from "../../src/runtime/Departure.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

/** The memory of objects and buffers that are in use, in bytes. */
const used = () => {
  collectGarbage()
  const { external, heapUsed } = process.memoryUsage()
  return external + heapUsed
}

const length = 200_000
const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
const chunks = "1\r\n \r\n".repeat(length)

/** A server that answers in chunks of one byte, and does not end the answer by itself. */
const byteByByte = Effect.gen(function* () {
  const sockets: Array<Socket> = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on("error", () => {}).once("data", () => socket.write(head + chunks))
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    end: Effect.sync(() => sockets[0]!.write("0\r\n\r\n"))
  }
})

/** Waits until a client of this process has taken all bytes of its next answer but the end. */
const nextArrived = Effect.acquireUseRelease(
  Effect.sync(() => {
    const seen: { answer?: IncomingMessage } = {}
    const note = (message: unknown) => {
      seen.answer ??= (message as { readonly response: IncomingMessage }).response
    }
    subscribe("http.client.response.finish", note)
    return { seen, note }
  }),
  ({ seen }) =>
    Effect.promise(async () => {
      while ((seen.answer?.socket.bytesRead ?? 0) < head.length + chunks.length) await setImmediate()
      for (let turn = 0; turn < 10; turn++) await setImmediate()
    }),
  ({ note }) => Effect.sync(() => void unsubscribe("http.client.response.finish", note))
)

const askAppService = (url: string) =>
  AppServiceClient.use((client) =>
    client.request({ id: "net", url, hsToken: "token" } as AppService, endpoints.ping)
  ).pipe(Effect.provide(AppServiceClient.layer.pipe(Layer.provide(Departure.layer))))

const askIdentityServer = (url: string) =>
  IdentityClient.use((client) =>
    Effect.flatMap(client.trusted(undefined), (server) =>
      client.lookup(server, { medium: "email", address: "alice@example.org" })
    )
  ).pipe(
    Effect.provide(
      IdentityClient.layer.pipe(
        Layer.provide([
          Layer.succeed(HomeServerConfig, {
            serverName: ServerName.make("green.test"),
            dataDir: "unused",
            identityServers: [url]
          }),
          Layer.succeed(FederationConfig, {}),
          Departure.layer
        ])
      )
    )
  )

describe("answers of other servers", () => {
  const clients: ReadonlyArray<readonly [string, (url: string) => Effect.Effect<unknown, unknown>]> = [
    ["application service", askAppService],
    ["identity server", askIdentityServer]
  ]
  for (const [name, ask] of clients) {
    it.live(`the answer of an ${name} in chunks of one byte occupies memory in proportion to its bytes`, () =>
      Effect.gen(function* () {
        const server = yield* byteByByte
        const before = used()
        const arrived = yield* Effect.forkChild(nextArrived, { startImmediately: true })
        const asking = yield* Effect.forkChild(Effect.exit(ask(server.url)), { startImmediately: true })
        yield* Fiber.join(arrived)
        assert.isBelow(used() - before, 50 * length)
        yield* server.end
        yield* Fiber.join(asking)
      })
    )
  }

  it.effect("are read up to their limit, as UTF-8", () =>
    Effect.gen(function* () {
      const text = "näher"
      const bytes = Buffer.from(text)
      const stream = Stream.fromIterable([...bytes].map((byte) => Uint8Array.of(byte)))
      const answer = { stream } as unknown as HttpIncomingMessage.HttpIncomingMessage<never>
      assert.strictEqual(yield* answerText(answer, bytes.length), text)
      const { message } = yield* Effect.flip(answerText(answer, bytes.length - 1))
      assert.strictEqual(message, "the answer is larger than 5 bytes")
    })
  )
})
