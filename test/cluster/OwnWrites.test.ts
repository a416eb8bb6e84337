/**
 * What one node has answered is part of the next answer of every other node, also where these have not followed the log so far: an older
 * transaction in the database holds them back meanwhile.
 */
import { PgConnection } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import { type Person, roomOf, type Scene, sendMessage, succeeded } from "../support/Scene.ts"
import { at, type Cluster, start } from "./support/Cluster.ts"

class Two extends Context.Service<Two, Cluster>()("greenroom/test/Two") {
  static readonly layer = Layer.effect(Two, start(2, { environment: { GREENROOM_ALLOW_GUESTS: "true" } }))
}

/** For how long the log is held back. Less than the two seconds for which a request waits for it. */
const holdFor = "400 millis"

/** Paths of today's client API, and of a later draft of it. */
const v3 = (path: string) => `//_matrix/client/v3${path}`
const dehydrated = "//_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"

const bodyOf = (person: Person, method: string, path: string, data?: unknown) =>
  Effect.map(person.ask(method, path, data), (answer) => succeeded(answer).body)

layer(Two.layer, { excludeTestServices: true, timeout: "2 minutes" })("two nodes", (it) => {
  const people = Effect.gen(function* () {
    const [a, b] = (yield* Two).nodes as [Scene, Scene]
    const name = `u${Math.random().toString(36).slice(2)}`
    const [alice, bob] = [yield* a.register(`${name}-alice`), yield* b.register(`${name}-bob`)]
    return { a, b, name, alice, bob, aliceAtB: at(b, alice), room: yield* roomOf(alice, bob) }
  })

  /** Runs `use` while an older transaction keeps the nodes from reading new rows of the log. */
  const heldBack = Effect.fnUntraced(function* <A>(use: Effect.Effect<A>) {
    const { databaseUrl } = yield* Two
    return yield* Effect.gen(function* () {
      const holder = yield* PgConnection.make({ url: databaseUrl, prepare: false })
      yield* holder.query("BEGIN")
      yield* holder.query("SELECT pg_current_xact_id()::text")
      const running = yield* Effect.forkChild(use, { startImmediately: true })
      yield* Effect.sleep(holdFor)
      yield* holder.query("ROLLBACK")
      return yield* Fiber.join(running)
    }).pipe(Effect.scoped, Effect.orDie)
  })

  /** The text of a message that is sent at one node, and what `read` reads at the other one at once. */
  const afterMessage = (sender: Person, room: string, read: Effect.Effect<Body>) =>
    heldBack(
      Effect.gen(function* () {
        succeeded(yield* sendMessage(sender, room, "morning"))
        return yield* read
      })
    )

  it.effect("a message is found by a search, a list of notifications and the first look at a room", () =>
    Effect.gen(function* () {
      const { alice, aliceAtB, bob, room } = yield* people
      const criteria = { search_categories: { room_events: { search_term: "morning" } } }
      const found = yield* afterMessage(alice, room, bodyOf(aliceAtB, "POST", v3("/search"), criteria))
      assert.strictEqual(found.search_categories.room_events.count, 1)
      const another = yield* roomOf(alice, bob)
      const listed = yield* afterMessage(alice, another, bodyOf(bob, "GET", v3("/notifications?limit=1")))
      assert.strictEqual(listed.notifications[0]?.room_id, another)
      const third = yield* roomOf(alice, bob)
      const path = `/rooms/${encodeURIComponent(third)}/initialSync`
      const { messages } = yield* afterMessage(alice, third, bodyOf(aliceAtB, "GET", path))
      assert.strictEqual(messages.chunk.at(-1).content.body, "morning")
    })
  )

  it.effect("an event stream from now on, and from the start of a page of messages, has no earlier message", () =>
    Effect.gen(function* () {
      const { alice, aliceAtB, bob, room } = yield* people
      const now = yield* afterMessage(alice, room, bodyOf(bob, "GET", "/events?timeout=0"))
      assert.deepStrictEqual(
        now.chunk.filter(({ type }: Body) => type === "m.room.message"),
        []
      )
      const another = yield* roomOf(alice, bob)
      const path = v3(`/rooms/${encodeURIComponent(another)}/messages`)
      const { chunk, start } = yield* afterMessage(alice, another, bodyOf(aliceAtB, "GET", `${path}?dir=b`))
      assert.strictEqual(chunk[0].content.body, "morning")
      assert.deepStrictEqual((yield* bodyOf(aliceAtB, "GET", `${path}?dir=f&from=${start}`)).chunk, [])
    })
  )

  it.effect("a message to a dehydrated device is in its first page", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* people
      const device_keys = { user_id: bob.userId, device_id: "dry", algorithms: [], keys: {}, signatures: {} }
      const device_data = { algorithm: "m.dehydration.v2", device_pickle: "sealed", nonce: "n" }
      yield* bodyOf(bob, "PUT", dehydrated, { device_id: "dry", device_data, device_keys })
      const { events } = yield* heldBack(
        Effect.gen(function* () {
          const messages = { [bob.userId]: { dry: { n: 1 } } }
          yield* bodyOf(alice, "PUT", v3("/sendToDevice/m.test/1"), { messages })
          return yield* bodyOf(bob, "POST", `${dehydrated}/dry/events`, {})
        })
      )
      assert.deepStrictEqual(
        events.map(({ content }: Body) => content),
        [{ n: 1 }]
      )
    })
  )

  /** Asserts that a request to the first node is answered no sooner than the second, which is paused, goes on. */
  const waitsForOther = Effect.fnUntraced(function* (request: Effect.Effect<Body>) {
    const [, b] = (yield* Two).nodes as [Scene, Scene]
    yield* b.gateway.pause
    const [elapsed, asked, isAnswered] = yield* Effect.gen(function* () {
      const asked = yield* Effect.forkChild(request, { startImmediately: true })
      const [elapsed] = yield* Effect.timed(Effect.sleep(holdFor))
      return [elapsed, asked, asked.pollUnsafe() !== undefined] as const
    }).pipe(Effect.ensuring(b.gateway.resume))
    // A node that is paused for longer is not waited for.
    if (Duration.toMillis(elapsed) < 1_500) assert.isFalse(isAnswered)
    return yield* Fiber.join(asked)
  })

  it.effect("a change of push rules is answered when the other node has it", () =>
    Effect.gen(function* () {
      const { alice } = yield* people
      const rule = { pattern: "tea", actions: ["notify"] }
      yield* waitsForOther(bodyOf(alice, "PUT", v3("/pushrules/global/content/tea"), rule))
    })
  )

  it.effect("the first use of a renewed access token is answered when the other node refuses the former", () =>
    Effect.gen(function* () {
      const { a, alice, b, name } = yield* people
      const login = { type: "m.login.password", user: alice.userId, password: `secret of ${name}-alice` }
      const post = (path: string, data: object) =>
        Effect.map(a.ask("POST", v3(path), { data }), (answer) => succeeded(answer).body)
      const before = yield* post("/login", { ...login, refresh_token: true })
      const person = (access_token: string) => a.person({ user_id: alice.userId, access_token })
      const statusAtB = (access_token: string) =>
        Effect.map(at(b, person(access_token)).ask("GET", v3("/account/whoami")), ({ status }) => status)
      assert.strictEqual(yield* statusAtB(before.access_token), 200)
      const first = yield* post("/refresh", { refresh_token: before.refresh_token })
      yield* waitsForOther(bodyOf(person(first.access_token), "GET", v3("/account/whoami")))
      assert.strictEqual(yield* statusAtB(before.access_token), 401)
      assert.strictEqual(yield* statusAtB(first.access_token), 200)
      const second = yield* post("/refresh", { refresh_token: first.refresh_token })
      yield* waitsForOther(post("/refresh", { refresh_token: second.refresh_token }))
      assert.strictEqual(yield* statusAtB(first.access_token), 401)
      assert.strictEqual(yield* statusAtB(second.access_token), 200)
    })
  )

  it.effect("a permission to see presence, and its end, apply at both nodes", () =>
    Effect.gen(function* () {
      const { a, b, name } = yield* people
      const [dan, eve] = [yield* a.register(`${name}-dan`), yield* b.register(`${name}-eve`)]
      const seen = Effect.forEach([a, b], (node) =>
        Effect.map(
          at(node, dan).ask("GET", `/presence/${encodeURIComponent(eve.userId)}/status`),
          ({ status }) => status
        )
      )
      const change = (person: Person, data: object) =>
        bodyOf(person, "POST", `/presence/list/${encodeURIComponent(person.userId)}`, data)
      assert.deepStrictEqual(yield* seen, [403, 403])
      yield* change(dan, { invite: [eve.userId] })
      yield* change(eve, { accept: [dan.userId] })
      assert.deepStrictEqual(yield* seen, [200, 200])
      yield* change(at(a, eve), { deny: [dan.userId] })
      assert.deepStrictEqual(yield* seen, [403, 403])
    })
  )

  it.effect("a guest becomes a user without a wait, and the access token of the guest ends at both nodes", () =>
    Effect.gen(function* () {
      const [a, b] = (yield* Two).nodes as [Scene, Scene]
      const register = (node: Scene, data: object) => node.ask("POST", v3("/register"), { data })
      const guest = a.person(succeeded(yield* a.ask("POST", v3("/register?kind=guest"), { data: {} })).body)
      const tokens = Effect.forEach([a, b], (node) =>
        Effect.map(at(node, guest).ask("GET", v3("/account/whoami")), ({ status }) => status)
      )
      assert.deepStrictEqual(yield* tokens, [200, 200])
      const account = (username: string) => ({ username, password: "a-password", auth: { type: "m.login.dummy" } })
      const [usual] = yield* Effect.timed(Effect.map(register(b, account(`plain${Date.now()}`)), succeeded))
      const username = guest.userId.slice(1).split(":")[0]!
      const upgrade = { ...account(username), guest_access_token: guest.token }
      const [elapsed] = yield* Effect.timed(Effect.map(register(b, upgrade), succeeded))
      assert.deepStrictEqual(yield* tokens, [401, 401])
      // Nodes that hear of the end after the transaction alone were waited for by two seconds within it.
      assert.isBelow(Duration.toMillis(elapsed), Duration.toMillis(usual) + 1_500)
    })
  )
})
