/**
 * What administrators forbid at one node holds at the others when they are answered, also for sockets and long polls that are open:
 * bans of users, servers and content; locked and suspended accounts; ended sessions.
 */
import { createHash } from "node:crypto"
import { assert, it } from "@effect/vitest"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { registerAdmin, secret } from "../support/RegisterAdmin.ts"
import { type Person, roomOf, type Scene, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"

const v3 = (path: string) => `//_matrix/client/v3${path}`

/** A socket that is open. Gives how it is closed. */
const openSocket = (scene: Scene, { token }: Person) =>
  Effect.callback<Effect.Effect<number>>((resume) => {
    const url = `${scene.gateway.url.replace("http", "ws")}${clientPrefix}/socket?access_token=${encodeURIComponent(token)}`
    const socket = new WebSocket(url, ["m.json"])
    const closed = new Promise<number>((resolve) => socket.once("close", resolve))
    socket.on("error", () => undefined)
    socket.once("open", () => resume(Effect.succeed(Effect.promise(() => closed))))
  })

it.live(
  "what is forbidden at one node is forbidden at all of them",
  () =>
    Effect.gen(function* () {
      const { nodes } = yield* start(3, { environment: { GREENROOM_REGISTRATION_SHARED_SECRET: secret } })
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

      // A user, who waits at two nodes.
      const mallory = yield* b.register("mallory")
      const alice = yield* c.register("alice")
      const room = yield* roomOf(alice, mallory)
      const { next_batch } = succeeded(yield* mallory.ask("GET", v3("/sync?timeout=0"))).body
      const closing = yield* openSocket(c, mallory)
      const polls = Effect.all(
        [
          at(b, mallory).ask("GET", v3(`/sync?timeout=60000&since=${encodeURIComponent(next_batch)}`)),
          at(c, mallory).ask("GET", "/events?timeout=60000"),
          closing
        ],
        { concurrency: "unbounded" }
      )
      const [[sync, events, code]] = yield* Effect.all([polls, ban("user", mallory.userId)], { concurrency: 2 })
      assert.deepStrictEqual([sync.status, events.status], [401, 401])
      assert.isAbove(code, 1000)
      const said = `/rooms/${encodeURIComponent(room)}/send/m.room.message/1`
      for (const [status] of yield* everywhere(mallory, "PUT", said, { msgtype: "m.text", body: "x" }))
        assert.strictEqual(status, 401)
      const login = { type: "m.login.password", user: "mallory", password: "secret of mallory" }
      for (const node of nodes) assert.strictEqual((yield* node.ask("POST", v3("/login"), { data: login })).status, 403)

      // Content, which is refused by its hash.
      const content = "forbidden words"
      yield* ban("sha256", createHash("sha256").update(content).digest("hex"))
      for (const node of nodes) {
        const answer = yield* node.ask("POST", "//_matrix/media/v3/upload", {
          bearer: alice.token,
          data: content,
          headers: { "content-type": "text/plain" }
        })
        assert.deepStrictEqual([answer.status, answer.body.errcode], [403, "M_FORBIDDEN"])
      }

      // A server, of whose users nothing is known any more.
      yield* ban("server", "evil.test")
      for (const node of nodes) {
        const { status } = yield* node.ask("GET", v3(`/profile/${encodeURIComponent("@x:evil.test")}`), {
          bearer: alice.token
        })
        assert.isAtLeast(status, 400)
      }

      // Accounts: suspended, then locked.
      yield* manage("PUT", `_matrix/client/v1/admin/suspend/${encodeURIComponent(alice.userId)}`, { suspended: true })
      for (const answer of yield* everywhere(alice, "POST", v3("/createRoom"), {}))
        assert.deepStrictEqual(answer, [403, "M_USER_SUSPENDED"])
      yield* manage("PUT", `_matrix/client/v1/admin/suspend/${encodeURIComponent(alice.userId)}`, { suspended: false })
      yield* manage("PUT", `_matrix/client/v1/admin/lock/${encodeURIComponent(alice.userId)}`, { locked: true })
      for (const answer of yield* everywhere(alice, "GET", v3("/sync?timeout=0")))
        assert.deepStrictEqual(answer, [401, "M_USER_LOCKED"])
      yield* manage("PUT", `_matrix/client/v1/admin/lock/${encodeURIComponent(alice.userId)}`, { locked: false })

      // A session that its user ends.
      const leaving = yield* openSocket(b, alice)
      succeeded(yield* at(a, alice).ask("POST", v3("/logout"), {}))
      for (const answer of yield* everywhere(alice, "GET", v3("/account/whoami")))
        assert.deepStrictEqual(answer, [401, "M_UNKNOWN_TOKEN"])
      assert.isAbove(yield* leaving, 1000)
    }).pipe(Effect.scoped),
  120_000
)
