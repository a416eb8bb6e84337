/**
 * Bans of users, servers and content, locked and suspended accounts, and logouts apply at all nodes as soon as the request at one node is
 * answered, for open sockets and long polls too.
 */
import { createHash } from "node:crypto"
import { assert, it } from "@effect/vitest"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { closeCodes } from "@greenroom/protocol/SocketFrame"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { HostileServer, notFound } from "../federation/support/HostileServer.ts"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"
import { type Person, roomOf, type Scene, succeeded } from "../support/Scene.ts"
import { at, freePorts, start } from "./support/Cluster.ts"

const v3 = (path: string) => `//_matrix/client/v3${path}`

/** Opens a socket. Returns an effect that waits for its close code. */
const openSocket = (scene: Scene, { token }: Person) =>
  Effect.callback<Effect.Effect<number>>((resume) => {
    const url = `${scene.gateway.url.replace("http", "ws")}${clientPrefix}/socket?access_token=${encodeURIComponent(token)}`
    const socket = new WebSocket(url, ["m.json"])
    const closed = new Promise<number>((resolve) => socket.once("close", resolve))
    socket.on("error", () => undefined)
    socket.once("open", () => resume(Effect.succeed(Effect.promise(() => closed))))
  })

it.live(
  "bans, locks, suspensions and logouts at one node apply at all nodes",
  () =>
    Effect.gen(function* () {
      const evil = new HostileServer("evil.test", "today")
      const [evilPort = 0] = yield* freePorts(1)
      yield* evil.listen(evilPort)
      const { nodes } = yield* start(3, {
        environment: {
          GREENROOM_REGISTRATION_SHARED_SECRET: secret,
          GREENROOM_FEDERATION_VERIFY: "false",
          GREENROOM_FEDERATION_SERVERS: `evil.test=127.0.0.1:${evilPort}`
        }
      })
      const [a, b, c] = nodes as [Scene, Scene, Scene]
      const admin = yield* registerAdmin(a.gateway.url)
      const manage = (method: string, path: string, data?: unknown) =>
        Effect.map(a.ask(method, `//${path}`, { bearer: admin, ...(data === undefined ? {} : { data }) }), succeeded)
      const ban = (kind: string, value: string) =>
        manage("PUT", `_greenroom/admin/v1/bans/${kind}/${encodeURIComponent(value)}`, { reason: "a test" })
      const everywhere = (person: Person, method: string, path: string, data?: unknown) =>
        Effect.forEach(nodes, (node) =>
          Effect.map(at(node, person).ask(method, path, data), ({ body, status }) => [status, body?.errcode])
        )

      // A banned user with a socket and long polls at two nodes.
      const mallory = yield* b.register("mallory")
      const alice = yield* c.register("alice")
      const room = yield* roomOf(alice, mallory)
      const { next_batch } = succeeded(yield* mallory.ask("GET", v3("/sync?timeout=0"))).body
      const closing = yield* openSocket(c, mallory)
      // News, such as the presence of the user whose socket opens, answers a poll before the ban does.
      const pollAt = (node: Scene, path: string) =>
        at(node, mallory)
          .ask("GET", path)
          .pipe(Effect.repeat({ while: ({ status }) => status === 200 }), Effect.timeout("30 seconds"))
      const polls = Effect.all(
        [
          pollAt(b, v3(`/sync?timeout=60000&since=${encodeURIComponent(next_batch)}`)),
          pollAt(c, "/events?timeout=60000"),
          closing
        ],
        { concurrency: "unbounded" }
      )
      const [[sync, events, code]] = yield* Effect.all([polls, ban("user", mallory.userId)], { concurrency: 2 })
      assert.deepStrictEqual([sync.status, events.status], [401, 401])
      assert.strictEqual(code, closeCodes.unknownToken)
      const path = `/rooms/${encodeURIComponent(room)}/send/m.room.message/1`
      for (const [status] of yield* everywhere(mallory, "PUT", path, { msgtype: "m.text", body: "x" }))
        assert.strictEqual(status, 401)
      const login = { type: "m.login.password", user: "mallory", password: "secret of mallory" }
      for (const node of nodes) assert.strictEqual((yield* node.ask("POST", v3("/login"), { data: login })).status, 403)

      // Banned content, by its hash.
      const content = "banned content"
      yield* ban("sha256", createHash("sha256").update(content).digest("hex"))
      for (const node of nodes) {
        const answer = yield* node.ask("POST", "//_matrix/media/v3/upload", {
          bearer: alice.token,
          data: content,
          headers: { "content-type": "text/plain" }
        })
        assert.deepStrictEqual([answer.status, answer.body.errcode], [403, "M_FORBIDDEN"])
      }

      // A banned server, from which profiles are not requested.
      evil.respond = ({ path }) =>
        path.startsWith("/v1/query/profile") ? { status: 200, body: { displayname: "Evil" } } : notFound
      const profileOf = (userId: string) => everywhere(alice, "GET", v3(`/profile/${encodeURIComponent(userId)}`))
      for (const [status] of yield* profileOf("@before:evil.test")) assert.strictEqual(status, 200)
      yield* ban("server", "evil.test")
      const requests = evil.asked.length
      for (const [status] of yield* profileOf("@after:evil.test")) assert.isAtLeast(status, 400)
      assert.lengthOf(evil.asked, requests)

      // Accounts: suspended, then locked.
      yield* manage("PUT", `_matrix/client/v1/admin/suspend/${encodeURIComponent(alice.userId)}`, { suspended: true })
      for (const answer of yield* everywhere(alice, "POST", v3("/createRoom"), {}))
        assert.deepStrictEqual(answer, [403, "M_USER_SUSPENDED"])
      yield* manage("PUT", `_matrix/client/v1/admin/suspend/${encodeURIComponent(alice.userId)}`, { suspended: false })
      yield* manage("PUT", `_matrix/client/v1/admin/lock/${encodeURIComponent(alice.userId)}`, { locked: true })
      for (const answer of yield* everywhere(alice, "GET", v3("/sync?timeout=0")))
        assert.deepStrictEqual(answer, [401, "M_USER_LOCKED"])
      yield* manage("PUT", `_matrix/client/v1/admin/lock/${encodeURIComponent(alice.userId)}`, { locked: false })

      // A logout.
      const leaving = yield* openSocket(b, alice)
      succeeded(yield* at(a, alice).ask("POST", v3("/logout"), {}))
      for (const answer of yield* everywhere(alice, "GET", v3("/account/whoami")))
        assert.deepStrictEqual(answer, [401, "M_UNKNOWN_TOKEN"])
      assert.strictEqual(yield* leaving, closeCodes.unknownToken)
    }).pipe(Effect.scoped),
  120_000
)
