/** The settings `federation.allow`, `federation.deny` and `federation.enabled`. */
import { connect } from "node:net"
import { assert, describe, it, vi } from "@effect/vitest"
import { Destinations } from "@greenroom/actors/federation/Destinations"
import { FederationCalls } from "@greenroom/actors/federation/FederationCalls"
import { OutgoingEdus } from "@greenroom/actors/federation/OutgoingEdus"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { freePort } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { homeServers, isMessage, message, type TestServer } from "./support/HomeServers.ts"

vi.setConfig({ testTimeout: 120_000 })

/** The result of a request from one server to another. */
const resultOf = (from: TestServer, to: TestServer) =>
  Effect.match(
    from.run(
      Effect.flatMap(FederationCalls, (calls) =>
        calls.call({
          destination: to.serverName,
          method: "GET",
          uri: "/_matrix/federation/v1/publicRooms",
          maxBytes: 100_000,
          isUrgent: true,
          read: (answer) => answer
        })
      )
    ),
    { onSuccess: () => "answered", onFailure: (error) => (error._tag === "RemoteRefused" ? error.errcode : error._tag) }
  )

/** Bob of the second server joins a public room of the first and receives a message there, if he can. */
const joinAndReceive = Effect.fnUntraced(function* (red: TestServer, blue: TestServer) {
  const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
  const { room_id } = yield* red.run(
    Effect.flatMap(Rooms, (rooms) => rooms.create(alice, { room_version: "12", visibility: "public" }))
  )
  const joined = yield* Effect.match(
    blue.run(Effect.flatMap(Rooms, (rooms) => rooms.join(bob, room_id, {}, undefined, [red.serverName]))),
    { onSuccess: () => true, onFailure: () => false }
  )
  if (!joined) return "not joined"
  yield* red.run(Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message("hello"))))
  yield* blue.sees(bob, isMessage("hello"))
  return "received"
})

describe("Settings of federation", () => {
  it.live("requests to and from denied servers, and servers that are not allowed, are refused", () =>
    Effect.gen(function* () {
      const servers = yield* homeServers(["red.test", "blue.test", "green.test"], {
        options: {
          "red.test": { federation: { deny: ["BLUE.*"] } },
          "green.test": { federation: { allow: ["red.test"] } }
        }
      })
      const [red, blue, green] = servers as [TestServer, TestServer, TestServer]
      assert.strictEqual(yield* resultOf(blue, red), "M_FORBIDDEN")
      assert.strictEqual(yield* resultOf(red, blue), "RemoteUnreachable")
      assert.strictEqual(yield* resultOf(blue, green), "M_FORBIDDEN")
      assert.strictEqual(yield* resultOf(green, blue), "RemoteUnreachable")
      assert.strictEqual(yield* joinAndReceive(red, blue), "not joined")
      assert.strictEqual(yield* joinAndReceive(green, red), "received")
    })
  )

  it.live("a denied server does not count as one that could not be reached", () =>
    Effect.gen(function* () {
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"], {
        options: { "red.test": { federation: { deny: ["blue.test"] } } }
      })) as [TestServer, TestServer]
      const edu = { destination: blue.serverName, edu_type: "m.presence_invite", content: {} }
      yield* red.run(OutgoingEdus.use((edus) => edus.send(edu)))
      for (let count = 0; count < 3; count++) assert.strictEqual(yield* resultOf(red, blue), "RemoteUnreachable")
      assert.deepStrictEqual(yield* red.run(Destinations.use((destinations) => destinations.list)), [])
    })
  )

  it.live("the port is closed and no request is sent if federation is disabled", () =>
    Effect.gen(function* () {
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"], {
        options: { "red.test": { federation: { enabled: false } } }
      })) as [TestServer, TestServer]
      assert.strictEqual(yield* resultOf(red, blue), "RemoteUnreachable")
      assert.strictEqual(yield* resultOf(blue, red), "M_FORBIDDEN")

      const port = yield* freePort
      const gateway = yield* GatewayProcess.start({
        dataDir: yield* GatewayProcess.temporaryDirectory,
        databaseUrl: yield* Effect.orDie(TestDatabase.emptyUrl),
        port: 0,
        environment: { GREENROOM_FEDERATION_PORT: String(port), GREENROOM_FEDERATION_ENABLED: "false" }
      })
      assert.include(gateway.output(), "Federation is off")
      const outcome = yield* Effect.callback<string>((resume) => {
        const socket = connect(port, "127.0.0.1")
        socket.once("connect", () => resume(Effect.succeed("connected")))
        socket.once("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? "")))
        return Effect.sync(() => socket.destroy())
      })
      assert.strictEqual(outcome, "ECONNREFUSED")
    })
  )
})
