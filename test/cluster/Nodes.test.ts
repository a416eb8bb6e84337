/** Any node serves any client: requests of one client go to three nodes in turn, with the same results as at one node. */
import { randomBytes } from "node:crypto"
import * as tls from "node:tls"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import { waitFor } from "../support/Polling.ts"
import { type Person, roomOf, type Scene, sendMessage, succeeded } from "../support/Scene.ts"
import { at, type Cluster, start } from "./support/Cluster.ts"
import { query } from "./support/Workload.ts"

class Three extends Context.Service<Three, Cluster>()("greenroom/test/Three") {
  static readonly layer = Layer.effect(Three, start(3))
}

const isMessage = (body: string) => (event: { readonly type: string; readonly content: { readonly body?: string } }) =>
  event.type === "m.room.message" && event.content.body === body

const now = (person: Person) => Effect.map(person.ask("GET", "/events?timeout=0"), ({ body }) => body.end as string)

const polling = (person: Person) => (path: string) => person.ask("GET", path)

/** A path of today's client API. */
const v3 = (path: string) => `//_matrix/client/v3${path}`

layer(Three.layer, { excludeTestServices: true, timeout: "2 minutes" })("three nodes", (it) => {
  const people = Effect.gen(function* () {
    const { nodes } = yield* Three
    const [a, b, c] = nodes as [Scene, Scene, Scene]
    const name = `u${Math.random().toString(36).slice(2)}`
    return { nodes, a, b, c, alice: yield* a.register(`${name}-alice`), bob: yield* b.register(`${name}-bob`) }
  })

  it.effect("messages that are sent at all nodes in turn are read at any node, in one order", () =>
    Effect.gen(function* () {
      const { alice, bob, nodes } = yield* people
      const rooms = yield* Effect.forEach([1, 2, 3, 4], () => roomOf(alice, bob))
      const texts = Array.from({ length: 24 }, (_, i) => `m${i}`)
      for (const room of rooms) {
        yield* Effect.forEach(texts, (text, i) => sendMessage(at(nodes[i % 3]!, alice), room, text), { concurrency: 8 })
        const read = (node: Scene) =>
          Effect.map(
            at(node, bob).ask("GET", `/rooms/${encodeURIComponent(room)}/messages?from=END&dir=b&limit=100`),
            (answer) => succeeded(answer).body.chunk.flatMap((event: Body) => event.content.body ?? []) as Array<string>
          )
        const views = yield* Effect.forEach(nodes, read)
        assert.sameMembers(views[0]!, texts)
        for (const view of views) assert.deepStrictEqual(view, views[0])
      }
    })
  )

  it.effect("a node accepts only connections of hosts that know the secret of the database", () =>
    Effect.gen(function* () {
      const { clusterPorts, databaseUrl } = yield* Three
      const [{ value }] = yield* query(databaseUrl, "SELECT value FROM server_settings WHERE name = 'secret.cluster'")
      const handshake = (psk: Buffer) =>
        Effect.callback<string>((resume) => {
          const socket = tls.connect({
            host: "127.0.0.1",
            port: clusterPorts()[0]!,
            ciphers: "PSK",
            maxVersion: "TLSv1.2",
            pskCallback: () => ({ psk, identity: "somebody" }),
            checkServerIdentity: () => undefined
          })
          socket.once("secureConnect", () => resume(Effect.succeed("connected")))
          socket.once("error", () => resume(Effect.succeed("refused")))
          return Effect.sync(() => socket.destroy())
        })
      assert.strictEqual(yield* handshake(Buffer.alloc(32)), "refused")
      assert.strictEqual(yield* handshake(Buffer.from(value, "base64url")), "connected")
    })
  )

  it.effect("a transaction that is repeated at other nodes, at once and later, sends one message", () =>
    Effect.gen(function* () {
      const { alice, nodes } = yield* people
      const room = yield* roomOf(alice)
      const everywhere = Effect.forEach(nodes, (node) => sendMessage(at(node, alice), room, "once"), { concurrency: 3 })
      const answers = [...(yield* everywhere), ...(yield* everywhere)]
      assert.deepStrictEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
      assert.strictEqual(new Set(answers.map(({ text }) => text)).size, 1)
    })
  )

  it.effect("a poll waits at any node, and receives the events of the others", () =>
    Effect.gen(function* () {
      const { alice, bob, nodes } = yield* people
      const room = yield* roomOf(alice, bob)
      let from = yield* now(bob)
      for (let i = 0; i < 6; i++) {
        const reader = at(nodes[i % 3]!, bob)
        const poll = yield* Effect.forkChild(waitFor(polling(reader), from, isMessage(`p${i}`)), {
          startImmediately: true
        })
        succeeded(yield* sendMessage(at(nodes[(i + 1) % 3]!, alice), room, `p${i}`))
        from = (yield* Fiber.join(poll)).end
      }
    })
  )

  it.effect("typing, presence, receipts and account data reach clients of today's API at other nodes", () =>
    Effect.gen(function* () {
      const { alice, b, bob, c } = yield* people
      const room = yield* roomOf(alice, bob)
      const sent = succeeded(yield* sendMessage(alice, room, "read-this")).body.event_id
      const bobAtC = at(c, bob)
      const sync = (since: string, timeout = 30_000) =>
        Effect.map(bobAtC.ask("GET", v3(`/sync?since=${since}&timeout=${timeout}`)), (answer) => succeeded(answer).body)
      let since = (yield* Effect.map(bobAtC.ask("GET", v3("/sync")), (answer) => succeeded(answer).body)).next_batch
      /** Syncs until an answer satisfies the condition. */
      const until = (found: (answer: Body) => boolean): Effect.Effect<void> =>
        Effect.flatMap(sync(since), (answer) => {
          since = answer.next_batch
          return found(answer) ? Effect.void : until(found)
        })
      const ephemeral = (answer: Body, type: string) =>
        answer.rooms?.join?.[room]?.ephemeral?.events.find((event: Body) => event.type === type)?.content

      const path = `/rooms/${encodeURIComponent(room)}`
      yield* alice.ask("PUT", v3(`${path}/typing/${alice.userId}`), { typing: true, timeout: 20_000 })
      yield* until((answer) => ephemeral(answer, "m.typing")?.user_ids.includes(alice.userId))
      yield* at(b, alice).ask("POST", v3(`${path}/receipt/m.read/${encodeURIComponent(sent)}`), {})
      yield* until((answer) => ephemeral(answer, "m.receipt")?.[sent]?.["m.read"]?.[alice.userId] !== undefined)
      yield* at(b, bob).ask("PUT", v3(`/user/${bob.userId}/account_data/org.example`), { at: "b" })
      yield* until((answer) => answer.account_data?.events.some((event: Body) => event.content.at === "b"))
      const status = `/presence/${alice.userId}/status`
      yield* at(b, alice).ask("PUT", status, { presence: "unavailable", status_msg: "away" })
      assert.strictEqual((yield* at(c, alice).ask("GET", status)).body.status_msg, "away")
    })
  )

  it.effect("a long poll at one node returns when a user starts and stops typing at another", () =>
    Effect.gen(function* () {
      const { alice, bob, nodes } = yield* people
      const room = yield* roomOf(alice, bob)
      let turn = 0
      const next = (person: Person) => at(nodes[turn++ % 3]!, person)
      const sync = (since?: string) =>
        Effect.map(
          next(bob).ask("GET", v3(`/sync?timeout=30000${since === undefined ? "" : `&since=${since}`}`)),
          (answer) => succeeded(answer).body
        )
      let since = (yield* sync()).next_batch
      /** Syncs until an answer has the typing users of the room. */
      const typing: Effect.Effect<ReadonlyArray<string>> = Effect.flatMap(
        Effect.suspend(() => sync(since)),
        (answer) => {
          since = answer.next_batch
          const events: ReadonlyArray<Body> = answer.rooms?.join?.[room]?.ephemeral?.events ?? []
          const found = events.find(({ type }) => type === "m.typing")
          return found === undefined ? typing : Effect.succeed(found.content.user_ids)
        }
      )
      const path = v3(`/rooms/${encodeURIComponent(room)}/typing/${alice.userId}`)
      for (const isTyping of Array.from({ length: 12 }, (_, i) => i % 2 === 0)) {
        const poll = yield* Effect.forkChild(typing, { startImmediately: true })
        succeeded(yield* next(alice).ask("PUT", path, { typing: isTyping, timeout: 20_000 }))
        assert.deepStrictEqual(yield* Fiber.join(poll), isTyping ? [alice.userId] : [])
      }
    })
  )

  it.effect("messages to a device that are sent and read at all nodes in turn arrive once and in order", () =>
    Effect.gen(function* () {
      const { alice, bob, nodes } = yield* people
      const numbers = Array.from({ length: 12 }, (_, n) => n)
      const send = (n: number, node: number) =>
        at(nodes[node % 3]!, alice).ask("PUT", v3(`/sendToDevice/m.test/${n}`), {
          messages: { [bob.userId]: { "*": { n } } }
        })
      const sending = yield* Effect.forkChild(
        // Each is sent to two nodes at once, like a retry after a broken connection.
        Effect.forEach(numbers, (n) =>
          Effect.all([send(n, n), send(n, n + 1)], { concurrency: 2 }).pipe(
            Effect.map((answers) => answers.forEach(succeeded))
          )
        )
      )
      const seen: Array<number> = []
      let since = ""
      const sync = (turn: number, timeout = 10_000) =>
        Effect.map(at(nodes[turn % 3]!, bob).ask("GET", v3(`/sync?timeout=${timeout}${since}`)), (answer) => {
          const { next_batch, to_device } = succeeded(answer).body
          since = `&since=${encodeURIComponent(next_batch)}`
          seen.push(...(to_device?.events ?? []).map(({ content }: Body) => content.n))
        })
      for (let turn = 0; seen.length < numbers.length; turn++) yield* sync(turn)
      yield* Fiber.join(sending)
      for (const turn of [0, 1, 2]) yield* sync(turn, 0)
      assert.deepStrictEqual(seen, numbers)
    })
  )

  it.effect("each one-time key is claimed once on all nodes together", () =>
    Effect.gen(function* () {
      const { alice, bob, nodes } = yield* people
      const { device_id: device } = succeeded(yield* bob.ask("GET", v3("/account/whoami"))).body
      const keys = Array.from({ length: 9 }, (_, n) => `signed_curve25519:k${n}`)
      const uploaded = Object.fromEntries(keys.map((key) => [key, { key }]))
      succeeded(yield* bob.ask("POST", v3("/keys/upload"), { one_time_keys: uploaded }))
      const claimed = yield* Effect.forEach(
        keys,
        (_, n) =>
          Effect.map(
            at(nodes[n % 3]!, alice).ask("POST", v3("/keys/claim"), {
              one_time_keys: { [bob.userId]: { [device]: "signed_curve25519" } }
            }),
            (answer) => Object.keys(succeeded(answer).body.one_time_keys[bob.userId][device])[0]
          ),
        { concurrency: "unbounded" }
      )
      assert.sameMembers(claimed, keys)
    })
  )

  it.effect("account data that was set at one node is in the next /sync with timeout=0 of every other node", () =>
    Effect.gen(function* () {
      const { alice, nodes } = yield* people
      const whole = (node: Scene) =>
        Effect.map(at(node, alice).ask("GET", v3("/sync?timeout=0")), (answer) => succeeded(answer).body)
      const valueIn = (body: Body) =>
        body.account_data.events.findLast(({ type }: Body) => type === "test.turn")?.content.turn
      let since: string = (yield* whole(nodes[0]!)).next_batch
      for (let turn = 0; turn < 60; turn++) {
        const path = v3(`/user/${encodeURIComponent(alice.userId)}/account_data/test.turn`)
        succeeded(yield* at(nodes[turn % 3]!, alice).ask("PUT", path, { turn }))
        const other = nodes[(turn + 1) % 3]!
        const { body } = succeeded(yield* at(other, alice).ask("GET", v3(`/sync?since=${since}&timeout=0`)))
        assert.strictEqual(valueIn(body), turn)
        if (turn % 3 === 0) assert.strictEqual(valueIn(yield* whole(other)), turn)
        since = body.next_batch
      }
    })
  )

  it.effect("a file that is uploaded at one node is served by all, whole and in ranges", () =>
    Effect.gen(function* () {
      const { alice, nodes } = yield* people
      const content = randomBytes(700_000)
      const ask = (node: Scene, path: string, init: RequestInit = {}) =>
        Effect.promise(async () => {
          const headers = { authorization: `Bearer ${alice.token}`, ...init.headers }
          const answer = await fetch(`${node.gateway.url}${path}`, { ...init, headers })
          return { status: answer.status, bytes: Buffer.from(await answer.arrayBuffer()) }
        })
      const uploaded = yield* ask(nodes[0]!, "/_matrix/media/v3/upload", { method: "POST", body: content })
      assert.strictEqual(uploaded.status, 200)
      const { content_uri } = JSON.parse(uploaded.bytes.toString()) as { readonly content_uri: string }
      const path = `/_matrix/client/v1/media/download/${content_uri.slice("mxc://".length)}`
      for (const node of nodes) {
        const whole = yield* ask(node, path)
        assert.strictEqual(whole.status, 200)
        assert.isTrue(content.equals(whole.bytes))
        const part = yield* ask(node, path, { headers: { range: "bytes=262000-262999" } })
        assert.strictEqual(part.status, 206)
        assert.isTrue(content.subarray(262_000, 263_000).equals(part.bytes))
      }
    })
  )

  it.effect("a logout at one node ends a long poll at another, and the token at all nodes", () =>
    Effect.gen(function* () {
      const { alice, b, bob, nodes } = yield* people
      yield* roomOf(alice, bob)
      /** Repeats the request until it is answered 401. */
      const untilEnded = (node: Scene, path: string): Effect.Effect<void> =>
        Effect.flatMap(at(node, alice).ask("GET", path), ({ status }) =>
          status === 401 ? Effect.void : untilEnded(node, path)
        )
      const from = yield* now(at(b, alice))
      const poll = yield* Effect.forkChild(untilEnded(b, `/events?from=${from}&timeout=60000`), {
        startImmediately: true
      })
      yield* at(b, bob).ask("GET", "/events?timeout=0")
      for (const node of nodes) succeeded(yield* at(node, alice).ask("GET", "/initialSync?limit=0"))
      succeeded(yield* alice.ask("POST", "/logout", {}))
      const refused = yield* Effect.forEach(nodes, (node) => at(node, alice).ask("GET", "/initialSync?limit=0"))
      assert.deepStrictEqual(
        refused.map(({ status }) => status),
        [401, 401, 401]
      )
      yield* Fiber.join(poll)
    })
  )

  it.effect("a client that polls with set_presence=offline is not shown as online after it sends at other nodes", () =>
    Effect.gen(function* () {
      const { a, alice, b, bob, c } = yield* people
      const room = yield* roomOf(alice, bob)
      const isShown = ({ userId }: Person, presence: string): Effect.Effect<void> =>
        Effect.flatMap(at(c, alice).ask("GET", `/presence/${encodeURIComponent(userId)}/status`), ({ body }) =>
          body.presence === presence ? Effect.void : Effect.delay(isShown({ userId } as Person, presence), "50 millis")
        )
      yield* isShown(bob, "online")
      succeeded(yield* at(a, bob).ask("GET", v3("/sync?set_presence=offline&timeout=0")))
      yield* isShown(bob, "offline")
      for (const node of [b, c]) succeeded(yield* sendMessage(at(node, bob), room, `hidden-${node.gateway.port}`))
      // Later activity at these nodes is shown, which proves that the activity of bob was not.
      for (const node of [b, c]) {
        const carol = yield* node.register(`carol-${node.gateway.port}`)
        yield* roomOf(alice, carol)
        yield* isShown(carol, "online")
      }
      yield* isShown(bob, "offline")
      const status = `/presence/${encodeURIComponent(bob.userId)}/status`
      assert.strictEqual((yield* at(c, alice).ask("GET", status)).body.presence, "offline")
      succeeded(yield* at(a, bob).ask("GET", v3("/sync?timeout=0")))
      yield* isShown(bob, "online")
    })
  )

  it.effect(
    "a lock of an account at one node, and its end, apply at all nodes once the administrator is answered",
    () =>
      Effect.gen(function* () {
        const { alice, bob, nodes } = yield* people
        yield* query((yield* Three).databaseUrl, `UPDATE users SET admin = true WHERE user_id = '${alice.userId}'`)
        const seen = Effect.forEach(nodes, (node) =>
          Effect.map(at(node, bob).ask("GET", v3("/account/whoami")), ({ status }) => status)
        )
        assert.deepStrictEqual(yield* seen, [200, 200, 200])
        for (const [node, locked] of [0, 1, 2, 0].map((node, turn) => [node, turn % 2 === 0] as const)) {
          const lock = `//_matrix/client/v1/admin/lock/${encodeURIComponent(bob.userId)}`
          succeeded(yield* at(nodes[node]!, alice).ask("PUT", lock, { locked }))
          const status = locked ? 401 : 200
          assert.deepStrictEqual(yield* seen, [status, status, status])
        }
      })
  )

  it.effect("a node that was paused during a logout refuses the token when it continues", () =>
    Effect.gen(function* () {
      const { alice, b, c } = yield* people
      succeeded(yield* at(c, alice).ask("GET", "/initialSync?limit=0"))
      yield* c.gateway.pause
      succeeded(yield* at(b, alice).ask("POST", "/logout", {}))
      const asked = yield* Effect.forkChild(at(c, alice).ask("GET", "/initialSync?limit=0"), {
        startImmediately: true
      })
      yield* c.gateway.resume
      assert.strictEqual((yield* Fiber.join(asked)).status, 401)
    })
  )
})
