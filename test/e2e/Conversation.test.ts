/** A first conversation, with curl. */
import { assert, describe, it } from "@effect/vitest"
import { clientPrefix, laterClientPrefix } from "@greenroom/protocol/api/ClientApi"
import { Effect, Fiber } from "effect"
import type { Body } from "../support/Curl.ts"
import { waitFor } from "../support/Polling.ts"
import * as RawSocket from "../support/RawSocket.ts"
import { restartable } from "../support/Scene.ts"

const text = (body: string) => ({ msgtype: "m.text", body })
const bodies = (chunk: ReadonlyArray<Body>) => chunk.map(({ content }) => content.body).filter((body) => body)
const inPath = encodeURIComponent

describe("Conversation", () => {
  for (const prefix of [clientPrefix, laterClientPrefix]) {
    it.live(
      `two users exchange messages, and a restarted server has everything (${prefix})`,
      () =>
        Effect.gen(function* () {
          const start = yield* restartable()
          const beforeRestart = Effect.scoped(
            Effect.gen(function* () {
              const { ask, gateway } = yield* start()
              const call = (method: string, path: string, token?: string, data?: unknown) =>
                ask(method, `/${prefix}${path}`, {
                  ...(token === undefined ? {} : { token }),
                  ...(data === undefined ? {} : { data })
                })

              // Both users register.
              const flows = yield* call("GET", "/register")
              assert.include(JSON.stringify(flows.body), "m.login.password")
              const password = "sw0rdfish"
              const alice = (yield* call("POST", "/register", undefined, {
                type: "m.login.password",
                user: "alice",
                password
              })).body
              assert.strictEqual(alice.user_id, "@alice:green.test")
              assert.strictEqual(alice.home_server, "green.test")
              const bob = (yield* call("POST", "/register", undefined, { user_id: "bob", password })).body
              assert.strictEqual(bob.user_id, "@bob:green.test")
              const [a, b] = [alice.access_token, bob.access_token]

              // A room with an alias and a topic.
              const created = yield* call("POST", "/createRoom", a, {
                visibility: "public",
                room_alias_name: "tea",
                name: "Tea room",
                topic: "Everything about tea"
              })
              assert.strictEqual(created.status, 200)
              assert.strictEqual(created.body.room_alias, "#tea:green.test")
              const room = inPath(created.body.room_id)
              const before = (yield* call("GET", "/events?timeout=0", b)).body.end

              // Bob waits for events, and Alice invites him.
              const waiting = yield* Effect.forkChild(
                waitFor(
                  (path) => call("GET", path, b),
                  before,
                  (event) => event.type === "m.room.member"
                )
              )
              const invited = yield* call("POST", `/rooms/${room}/invite`, a, { user_id: bob.user_id })
              assert.deepStrictEqual([invited.status, invited.body], [200, {}])
              const { event: invite } = yield* Fiber.join(waiting)
              assert.deepInclude(invite, { state_key: bob.user_id, user_id: alice.user_id })
              assert.strictEqual(invite.content.membership, "invite")

              // Bob joins by the alias, and Alice says hello.
              const joined = yield* call("POST", `/join/${inPath("#tea:green.test")}`, b, {})
              assert.strictEqual(joined.body.room_id, created.body.room_id)
              const position = (yield* call("GET", "/events?timeout=0", b)).body.end
              const sent = yield* call("PUT", `/rooms/${room}/send/m.room.message/1`, a, text("Hello Bob"))
              const again = yield* call("PUT", `/rooms/${room}/send/m.room.message/1`, a, text("Hello Bob"))
              assert.deepStrictEqual([sent.status, again.body], [200, sent.body])
              const received = yield* waitFor(
                (path) => call("GET", path, b),
                position,
                (event) => event.event_id === sent.body.event_id
              )
              const hello = received.event
              assert.deepInclude(hello, {
                type: "m.room.message",
                user_id: alice.user_id,
                sender: alice.user_id,
                room_id: created.body.room_id,
                content: text("Hello Bob")
              })
              assert.isNumber(hello.ts)

              // Both send and receive on sockets.
              const socketOf = (token: string, subprotocol: "m.json" | "m.msgpack") =>
                RawSocket.open(gateway.url, { token, subprotocol, prefix, from: received.end })
              const json = yield* socketOf(a, "m.json")
              const binary = yield* socketOf(b, "m.msgpack")
              assert.deepStrictEqual([json.protocol, binary.protocol], ["m.json", "m.msgpack"])
              const send = (socket: RawSocket.RawSocket, body: string) =>
                socket.request("send", { room_id: created.body.room_id, type: "m.room.message", content: text(body) })
              const eventOf = (socket: RawSocket.RawSocket, body: string) =>
                socket.event((event) => event.content.body === body)
              const byJson = yield* send(json, "By JSON")
              const byBinary = yield* send(binary, "By MessagePack")
              assert.isString(byJson.result.event_id)
              assert.isString(byBinary.result.event_id)
              for (const socket of [json, binary]) {
                assert.strictEqual((yield* eventOf(socket, "By JSON")).event_id, byJson.result.event_id)
                assert.strictEqual((yield* eventOf(socket, "By MessagePack")).event_id, byBinary.result.event_id)
              }

              // Bob's presence and name reach Alice.
              const status = `/presence/${inPath(bob.user_id)}/status`
              assert.strictEqual(
                (yield* call("PUT", status, b, { state: "unavailable", status_msg: "Tea" })).status,
                200
              )
              const presence = yield* json.event(
                (event) =>
                  event.type === "m.presence" &&
                  event.content.user_id === bob.user_id &&
                  event.content.state === "unavailable"
              )
              assert.strictEqual(presence.content.status_msg, "Tea")
              const seen = (yield* call("GET", status, a)).body
              assert.deepInclude(seen, { state: "unavailable", presence: "unavailable", status_msg: "Tea" })
              yield* call("PUT", `/profile/${inPath(bob.user_id)}/displayname`, b, { displayname: "Bob the Builder" })
              const renamed = yield* json.event(
                (event) => event.type === "m.room.member" && event.content.displayname === "Bob the Builder"
              )
              assert.strictEqual(renamed.state_key, bob.user_id)
              yield* json.event(
                (event) => event.type === "m.presence" && event.content.displayname === "Bob the Builder"
              )

              // The messages, in both directions.
              const texts = ["Hello Bob", "By JSON", "By MessagePack"]
              const backwards = yield* call("GET", `/rooms/${room}/messages?from=END&dir=b&limit=50`, b)
              assert.deepStrictEqual(bodies(backwards.body.chunk), texts.toReversed())
              const forwards = yield* call("GET", `/rooms/${room}/messages?from=START&dir=f&limit=50`, b)
              assert.deepStrictEqual(bodies(forwards.body.chunk), texts)

              assert.strictEqual(yield* gateway.stop, 0)
              return { alice, bob, room, roomId: created.body.room_id, texts, sent: sent.body, end: received.end }
            })
          )
          const { alice, bob, end, room, roomId, sent, texts } = yield* beforeRestart

          // After the restart.
          const { ask } = yield* start()
          const call = (method: string, path: string, token?: string, data?: unknown) =>
            ask(method, `/${prefix}${path}`, {
              ...(token === undefined ? {} : { token }),
              ...(data === undefined ? {} : { data })
            })
          const [a, b] = [alice.access_token, bob.access_token]
          const sync = (yield* call("GET", "/initialSync?limit=20", b)).body
          assert.strictEqual(sync.rooms.length, 1)
          assert.deepInclude(sync.rooms[0], { room_id: roomId, membership: "join" })
          assert.deepStrictEqual(bodies(sync.rooms[0].messages.chunk), texts)
          const repeated = yield* call("PUT", `/rooms/${room}/send/m.room.message/1`, a, text("Hello Bob"))
          assert.deepStrictEqual(repeated.body, sent)
          const missed = yield* call("GET", `/events?from=${inPath(end)}&timeout=0`, a)
          assert.deepStrictEqual(bodies(missed.body.chunk), texts.slice(1))
          assert.strictEqual(
            (yield* call("GET", `/rooms/${room}/state/m.room.topic`, b)).body.topic,
            "Everything about tea"
          )
          const resolved = yield* call("GET", `/directory/room/${inPath("#tea:green.test")}`, b)
          assert.deepStrictEqual(resolved.body, { room_id: roomId, servers: ["green.test"] })
          const { body: profile } = yield* call("GET", `/profile/${inPath(bob.user_id)}/displayname`, a)
          assert.strictEqual(profile.displayname, "Bob the Builder")
          const login = yield* call("POST", "/login", undefined, {
            type: "m.login.password",
            user: "alice",
            password: "sw0rdfish"
          })
          assert.strictEqual(login.status, 200)
          assert.notStrictEqual(login.body.access_token, a)
        }),
      180_000
    )
  }
})
