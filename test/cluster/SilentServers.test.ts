/**
 * The shutdown of a node while its requests wait for a home server, an application service, an identity server, an identity provider, a web
 * page or a file store that does not answer, or for the rest of a body. They are answered 503 with `Retry-After`, and leave no partial changes.
 */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as http from "node:http"
import { createServer } from "node:https"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { tlsCredentials } from "@greenroom/gateway/federation/TlsCredentials"
import { listen } from "@greenroom/gateway/NodeServer"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Queue, Redacted } from "effect"
import { hasS3Store, s3Store } from "../../packages/gateway/test/support/S3Store.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { relay } from "../support/Relay.ts"
import type { Scene } from "../support/Scene.ts"
import { at, freePorts, start } from "./support/Cluster.ts"
import * as HalfRequest from "./support/HalfRequest.ts"

const client = "//_matrix/client/v3"
const silent = ServerName.make("silent.test")

/** Listens on a port until the scope ends, and never answers. Returns the queue of the paths of the requests. */
const listenSilently = Effect.fnUntraced(function* (server: http.Server, port: number) {
  const paths = yield* Queue.unbounded<string>()
  server.on("request", ({ url = "" }) => Queue.offerUnsafe(paths, url))
  yield* Effect.orDie(listen(server, { host: "127.0.0.1", port }))
  return paths
})

/** A home server that never answers. */
const silentHomeServer = Effect.fnUntraced(function* (port: number) {
  const dataDir = yield* GatewayProcess.temporaryDirectory
  const server = createServer(yield* Effect.orDie(tlsCredentials({ serverName: silent, dataDir })))
  return yield* listenSilently(server, port)
})

it.live(
  "requests that wait for a silent home server get 503 when their node shuts down, and leave no partial changes",
  () =>
    Effect.gen(function* () {
      const [port = 0] = yield* freePorts(1)
      const asked = yield* silentHomeServer(port)
      const { nodes } = yield* start(2, {
        environment: {
          GREENROOM_FEDERATION_VERIFY: "false",
          GREENROOM_FEDERATION_SERVERS: `${silent}=127.0.0.1:${port}`
        }
      })
      const [a, b] = nodes as [Scene, Scene]
      const alice = yield* a.register("alice")
      const invited = `@zoe:${silent}`
      const ask = (scene: Scene, method: string, path: string, data?: unknown) =>
        scene.ask(method, `${client}${path}`, { bearer: alice.token, ...(data === undefined ? {} : { data }) })
      const rooms = yield* Effect.forEach(Array.from({ length: 4 }), () =>
        Effect.map(ask(a, "POST", "/createRoom", {}), ({ body }) => encodeURIComponent(body.room_id))
      )
      const waiting = [
        ...rooms.map((room) => ask(a, "POST", `/rooms/${room}/invite`, { user_id: invited })),
        ...["one", "two"].map((room) => ask(a, "POST", `/join/${encodeURIComponent(`!${room}:${silent}`)}`, {})),
        ask(a, "GET", `/profile/${encodeURIComponent(invited)}`)
      ]
      const [answers] = yield* Effect.all(
        [
          Effect.all(waiting, { concurrency: "unbounded" }),
          Effect.gen(function* () {
            yield* Effect.forEach(waiting, () => Queue.take(asked))
            assert.strictEqual(yield* a.gateway.stop, 0)
          })
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers.map(({ headers, status }) => [status, headers["retry-after"] !== undefined]),
        waiting.map(() => [503, true])
      )
      for (const { gateway } of nodes) assert.notInclude(gateway.output(), "failed inside")
      for (const room of rooms) {
        const { body } = yield* ask(b, "GET", `/rooms/${room}/members`)
        assert.deepStrictEqual(
          body.chunk.map(({ state_key }: { readonly state_key: string }) => state_key),
          [alice.userId]
        )
      }
      assert.strictEqual((yield* at(b, alice).ask("GET", "/events?timeout=0")).status, 200)
    }).pipe(Effect.scoped),
  120_000
)

/** The registration of an application service at a URL. */
const registrationOf = (url: string) => ({
  id: "net",
  url,
  as_token: "bridge-token",
  hs_token: "server-token",
  sender_localpart: "netbot",
  namespaces: { users: [], aliases: [{ exclusive: true, regex: "#net_.*:green.test" }], rooms: [] },
  protocols: ["net"]
})

it.live(
  "requests that wait for other services, or for their body, get 503 when their node shuts down",
  () =>
    Effect.gen(function* () {
      const [port = 0] = yield* freePorts(1)
      const asked = yield* listenSilently(http.createServer(), port)
      const url = `http://127.0.0.1:${port}`
      const registration = path.join(yield* GatewayProcess.temporaryDirectory, "net.yaml")
      // YAML contains JSON.
      yield* Effect.promise(() => fs.writeFile(registration, JSON.stringify(registrationOf(url))))
      const provider = {
        id: "org",
        name: "Org",
        client_id: "us",
        client_secret: "secret",
        issuer: url,
        allow_http: true
      }
      const { nodes } = yield* start(1, {
        environment: {
          GREENROOM_APP_SERVICE_FILES: registration,
          GREENROOM_IDENTITY_SERVERS: url,
          GREENROOM_LOGIN_FLOWS: "m.login.password,m.login.oauth2",
          GREENROOM_OAUTH2_PROVIDERS: JSON.stringify([provider]),
          GREENROOM_MEDIA_PREVIEW_PRIVATE_ADDRESSES: "true"
        }
      })
      const [node] = nodes as [Scene]
      const alice = yield* node.register("alice")
      const ask = (method: string, path: string, data?: unknown) =>
        node.ask(method, path, { bearer: alice.token, ...(data === undefined ? {} : { data }) })
      const alias = (name: string) => encodeURIComponent(`#net_${name}:green.test`)
      const bound = { sid: "1", client_secret: "s3cret", id_server: `127.0.0.1:${port}` }
      const waiting = [
        ask("POST", `${client}/join/${alias("one")}`, {}),
        ask("GET", `${client}/directory/room/${alias("two")}`),
        ask("GET", `${client}/thirdparty/protocol/net`),
        ask("POST", `${client}/account/3pid/bind`, bound),
        ask("GET", `${client}/login/sso/redirect?redirectUrl=${encodeURIComponent(url)}`),
        ask("GET", `//_matrix/client/v1/media/preview_url?url=${encodeURIComponent(`${url}/page`)}`)
      ]
      const paused = yield* Effect.all([
        HalfRequest.begin(node, alice, "POST", "/_matrix/client/v3/createRoom", { name: "a room" }),
        HalfRequest.begin(node, alice, "POST", "/_matrix/media/v3/upload", { name: "a file" })
      ])
      const [answers, late] = yield* Effect.all(
        [
          Effect.all(waiting, { concurrency: "unbounded" }),
          Effect.all(
            paused.map(({ answered }) => answered),
            { concurrency: "unbounded" }
          ),
          Effect.gen(function* () {
            yield* Effect.forEach(waiting, () => Queue.take(asked))
            assert.strictEqual(yield* node.gateway.stop, 0)
          })
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers.map(({ headers, status }) => [status, headers["retry-after"]]),
        waiting.map(() => [503, "1"])
      )
      assert.deepStrictEqual(
        late,
        paused.map(() => ({ status: 503, retryAfter: "1" }))
      )
      assert.notInclude(node.gateway.output(), "failed inside")
      assert.notInclude(node.gateway.output(), "cut off work")
    }).pipe(Effect.scoped),
  120_000
)

describe.skipIf(!hasS3Store)("a silent file store", () => {
  it.live(
    "a node with a silent file store stops, with 503 for requests of files and begun downloads cut off",
    () =>
      Effect.gen(function* () {
        const { s3 } = yield* s3Store
        const store = yield* relay(Number(new URL(s3.endpoint).port))
        const { nodes } = yield* start(1, {
          environment: {
            GREENROOM_MEDIA_S3_ENDPOINT: `http://127.0.0.1:${store.port}`,
            GREENROOM_MEDIA_S3_BUCKET: s3.bucket,
            GREENROOM_MEDIA_S3_ACCESS_KEY_ID: s3.accessKeyId,
            GREENROOM_MEDIA_S3_SECRET_ACCESS_KEY: Redacted.value(s3.secretAccessKey)
          }
        })
        const [node] = nodes as [Scene]
        const { token } = yield* node.register("alice")
        const transfer = (method: string, path: string, body?: Buffer<ArrayBuffer>) =>
          fetch(`${node.gateway.url}${path}`, {
            method,
            headers: { authorization: `Bearer ${token}` },
            ...(body === undefined ? {} : { body })
          })
        const upload = (bytes: Buffer<ArrayBuffer>) => transfer("POST", "/_matrix/media/v3/upload", bytes)
        const download = (file: string) => transfer("GET", `/_matrix/client/v1/media/download/${file}`)
        const uploaded = (bytes: Buffer<ArrayBuffer>) =>
          Effect.promise(async () => {
            const { content_uri } = (await (await upload(bytes)).json()) as { readonly content_uri: string }
            return content_uri.replace("mxc://", "")
          })
        const [large, small] = [yield* uploaded(randomBytes(32_000_000)), yield* uploaded(randomBytes(1_000))]

        store.silence(100_000)
        const begun = yield* Effect.promise(() => download(large))
        assert.strictEqual(begun.status, 200)
        const broken = begun.arrayBuffer().then(
          () => "whole",
          () => "cut"
        )
        while ((yield* Queue.take(store.kept)) !== "answer");
        const waiting = [download(small), upload(randomBytes(2_000))]
        for (const _ of waiting) while ((yield* Queue.take(store.kept)) !== "request");
        assert.strictEqual(yield* node.gateway.stop, 0)
        assert.deepStrictEqual(
          (yield* Effect.promise(() => Promise.all(waiting))).map(({ headers, status }) => [
            status,
            headers.get("retry-after")
          ]),
          waiting.map(() => [503, "1"])
        )
        assert.strictEqual(yield* Effect.promise(() => broken), "cut")
        assert.notInclude(node.gateway.output(), "failed inside")
        assert.notInclude(node.gateway.output(), "cut off work")
      }).pipe(Effect.scoped),
    120_000
  )
})
