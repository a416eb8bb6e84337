/** PDUs that are malformed, too large or too many, numbers that JavaScript cannot represent, and user IDs of former grammars. */
import { assert, layer, vi } from "@effect/vitest"
import { parse as parseExact } from "@greenroom/protocol/ExactJson"
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { verifyKeyOf } from "@greenroom/room/Signing"
import { Effect, Fiber, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import { exchangeMessages, isHealthy, leavesRoomUnchanged, refused } from "./support/HostileNetwork.ts"
import { imaginedHash, notFound } from "./support/HostileServer.ts"
import { expectOk, say, sees } from "./support/Network.ts"
import { Servers, sceneOf, versions } from "./support/TodaysHostility.ts"

vi.setConfig({ testTimeout: 180_000 })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Malformed PDUs", (it) => {
  for (const version of versions) {
    const scene = sceneOf(version)
    const named = (text: string) => `version ${version}: ${text}`

    it.effect(
      named("PDUs without canonical form, too large ones and ones with too many references are refused individually"),
      () =>
        Effect.gen(function* () {
          const here = yield* scene
          const { evil, mallory, red, room: known } = here
          const good = evil.toPdu(evil.event(known, { sender: mallory, content: { body: "good" } }))
          const count = red.select(`SELECT count(*)::int AS count FROM events`)
          const [before] = yield* count
          const many = (length: number) => Array.from({ length }, () => imaginedHash().event_id)
          const bad: ReadonlyArray<unknown> = [
            null,
            7,
            "pdu",
            [],
            {},
            { ...good, room_id: undefined },
            { ...good, room_id: "!nowhere:red.test" },
            { ...good, room_id: here.room_id.toUpperCase() },
            { ...good, sender: "mallory" },
            { ...good, sender: `@${"x".repeat(300)}:evil.test` },
            { ...good, type: "x".repeat(256) },
            { ...good, type: "é".repeat(128) },
            { ...good, state_key: "x".repeat(256) },
            { ...good, state_key: null },
            { ...good, depth: -1 },
            { ...good, depth: 1.5 },
            { ...good, depth: 2 ** 60 },
            { ...good, depth: "1" },
            { ...good, origin_server_ts: "now" },
            { ...good, content: { number: 1.5 } },
            { ...good, content: { number: 2 ** 60 } },
            { ...good, content: { body: "x".repeat(70_000) } },
            { ...good, content: [] },
            { ...good, prev_events: many(21) },
            { ...good, prev_events: many(5_000) },
            { ...good, prev_events: "none" },
            { ...good, prev_events: [["$a", {}]] },
            { ...good, auth_events: many(11) },
            { ...good, auth_events: [7] },
            { ...good, hashes: {} },
            { ...good, signatures: { "evil.test": 7 } },
            { ...good, signatures: {} }
          ]
          yield* leavesRoomUnchanged(
            here,
            Effect.gen(function* () {
              for (const pdu of bad) {
                const { body, status } = yield* evil.send(red, [pdu as Body])
                assert.strictEqual(status, 200, JSON.stringify(pdu)?.slice(0, 200))
                for (const answer of Object.values(body.pdus)) assert.isString((answer as Body).error)
              }
              const notJson = yield* evil.ask(red, "PUT", "/v1/send/notjson", undefined, { raw: '{"pdus": [' })
              assert.deepStrictEqual([notJson.status, notJson.body.errcode], [400, "M_NOT_JSON"])
              for (const parts of [{ pdus: 51 }, { edus: 101 }, { pdus: 1000, edus: 1000 }]) {
                const many = (count = 0, entry: Body = {}) => Array.from({ length: count }, () => entry)
                const { body, status } = yield* evil.send(red, many(parts.pdus, good), { edus: many(parts.edus) })
                assert.deepStrictEqual([status, body.errcode], [400, "M_BAD_JSON"])
              }
              const raw = `{"pdus": [], "edus": [], "padding": "${"x".repeat(9 * 1024 * 1024)}"}`
              const padded = yield* evil.ask(red, "PUT", "/v1/send/padded", undefined, { raw })
              assert.deepStrictEqual([padded.status, padded.body.errcode], [413, "M_TOO_LARGE"])
              // Auth events that are duplicates, not needed, or unknown.
              const event = evil.event(known, { sender: mallory })
              const twice = evil.remake(event, { auth_events: [...event.auth_events, event.auth_events[0]] })
              const member = known.state.get(`m.room.member\0${here.alice.userId}`)!
              const odd = evil.remake(event, { auth_events: [...event.auth_events, member.event_id] })
              const missing = evil.remake(event, { auth_events: [imaginedHash().event_id] })
              yield* refused(here, [twice, odd, missing], /auth events|authorise|names/)
            })
          )
          const [after] = yield* count
          // The messages of Alice and Bob, and two rejected events, which are stored because their auth events are known.
          assert.isAtMost(after.count - before.count, 4)
        })
    )

    it.effect(named("a flood of PDUs and EDUs, and a server that never answers, do not delay other work"), () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { evil, mallory, red, room: known, room_id } = here
        const pdus = Array.from({ length: 50 }, (_, index) =>
          evil.toPdu(evil.event(known, { sender: `@flood${index}:evil.test` }))
        )
        const edus = Array.from({ length: 100 }, (_, index) => ({
          edu_type: "m.typing",
          content: { room_id, user_id: `@flood${index}:evil.test`, typing: true }
        }))
        yield* leavesRoomUnchanged(
          here,
          Effect.gen(function* () {
            const flood = yield* Effect.forkChild(
              Effect.forEach(Array.from({ length: 30 }), () => evil.send(red, pdus, { edus }), {
                concurrency: "unbounded"
              })
            )
            yield* isHealthy(red)
            const answers = yield* Fiber.join(flood)
            for (const { status } of answers) assert.include([200, 429], status)
            const outcomes = answers.flatMap(({ body, status }) => (status === 200 ? Object.values(body.pdus) : []))
            assert.isNotEmpty(outcomes)
            for (const outcome of outcomes) assert.deepStrictEqual(outcome, {})
          })
        )
        evil.respond = () => "never"
        const held = yield* Effect.forkChild(
          evil.tell(red, evil.event(known, { sender: mallory }, { prevEvents: [imaginedHash()] }))
        )
        yield* exchangeMessages(here)
        yield* isHealthy(red)
        yield* Fiber.interrupt(held)
        evil.respond = () => notFound
        evil.hangUp()
      })
    )
  }

  it.effect("version 5: numbers that JavaScript cannot represent reach servers and clients unchanged", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, evil, mallory, red, room: known, room_id } = yield* sceneOf("5")
      const numbers = '"numbers":[12345678901234567890,1.0,-0.0,1e+16,1.5]'
      const event = evil.event(known, {
        type: "org.example.numbers",
        sender: mallory,
        content: parseExact(`{${numbers}}`) as Body
      })
      assert.deepStrictEqual(yield* evil.tell(red, event), [undefined])
      // Blue gets it from red, as the predecessor of a message of Alice.
      const following = yield* say(alice, room_id, "numbers")
      yield* sees(bob, ({ event_id }) => event_id === following)
      const path = `/${encodeURIComponent(room_id)}/event/${encodeURIComponent(event.event_id)}`
      for (const person of [alice, bob]) {
        const { text } = yield* person.ask("GET", `//_matrix/client/v3/rooms${path}`)
        assert.include(text, numbers)
        const messages = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/messages?dir=b&limit=10`
        assert.include((yield* person.ask("GET", messages)).text, numbers)
        assert.include((yield* person.ask("GET", `/rooms/${encodeURIComponent(room_id)}/initialSync`)).text, numbers)
        assert.include((yield* person.ask("GET", "//_matrix/client/v3/sync?timeout=0")).text, numbers)
      }
      for (const server of [red, blue]) {
        const { text } = yield* evil.ask(server, "GET", `/v1/event/${encodeURIComponent(event.event_id)}`)
        const [pdu] = (parseExact(text) as Body).pdus
        const read = Result.getOrThrow(roomVersion("5")!.fromPdu(pdu))
        assert.strictEqual(read.event_id, event.event_id)
        const keys = new Map([[evil.key.keyId, verifyKeyOf(evil.key)]])
        assert.deepStrictEqual(
          roomVersion("5")!.verify(read, () => keys),
          Result.succeed(read)
        )
      }
    })
  )

  it.effect("version 11: users with an empty localpart or control characters are read, banned and given levels", () =>
    Effect.gen(function* () {
      const { alice, evil, red, room: known, room_id } = yield* sceneOf("11")
      const inRoom = `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}`
      const { next_batch } = yield* expectOk(alice.ask("GET", "//_matrix/client/v3/sync"))
      for (const userId of ["@:evil.test", "@a\u0007b:evil.test"]) {
        const join = evil.event(known, {
          type: "m.room.member",
          sender: userId,
          state_key: userId,
          content: { membership: "join" }
        })
        known.state.set(stateKeyOf("m.room.member", userId), join)
        const message = evil.event(known, { sender: userId }, { prevEvents: [join] })
        assert.deepStrictEqual(yield* evil.tell(red, join, message), [undefined, undefined])
        const event = encodeURIComponent(message.event_id)
        const paths = ["state", "members", "joined_members", "messages?dir=b", `event/${event}`, `context/${event}`]
        for (const path of paths) {
          const { status, text } = yield* alice.ask("GET", `${inRoom}/${path}`)
          assert.strictEqual(status, 200, `${path}: ${text}`)
          assert.include(text, JSON.stringify(userId), path)
        }
        const levels = (yield* expectOk(alice.ask("GET", `${inRoom}/state/m.room.power_levels`))) as Body
        const raised = { ...levels, users: { ...(levels.users as object), [userId]: 10 } }
        yield* expectOk(alice.ask("PUT", `${inRoom}/state/m.room.power_levels`, raised))
        yield* expectOk(alice.ask("POST", `${inRoom}/ban`, { user_id: userId }))
        const member = yield* alice.ask("GET", `${inRoom}/state/m.room.member/${encodeURIComponent(userId)}`)
        assert.deepStrictEqual([member.status, member.body.membership], [200, "ban"])
        const asked = { device_keys: { [userId]: [], [alice.userId]: [] } }
        const keys = (yield* expectOk(alice.ask("POST", "//_matrix/client/v3/keys/query", asked))) as Body
        assert.deepStrictEqual(Object.keys(keys.device_keys as object), [alice.userId])
      }
      const { state } = yield* evil.join(red, room_id, "@c\u0007d:evil.test")
      assert.strictEqual(state.get(stateKeyOf("m.room.member", "@c\u0007d:evil.test"))?.content.membership, "join")
      yield* say(alice, room_id, "hello")
      yield* evil.receives(({ content }) => content.body === "hello")
      yield* evil.join(red, room_id, "@carol:evil.test")
      const { device_lists } = yield* expectOk(alice.ask("GET", `//_matrix/client/v3/sync?since=${next_batch}`))
      assert.deepStrictEqual([device_lists.changed, device_lists.left ?? []], [["@carol:evil.test"], []])
      const search = alice.ask("POST", "//_matrix/client/v3/user_directory/search", { search_term: "evil.test" })
      const { results } = yield* expectOk(search)
      const found = (results as ReadonlyArray<{ readonly user_id: string }>).map(({ user_id }) => user_id)
      assert.include(found, "@carol:evil.test")
      assert.isEmpty(found.filter((userId) => !/^@[a-z0-9]+:/.test(userId)))
    })
  )
})
