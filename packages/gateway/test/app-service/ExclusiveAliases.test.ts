import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect } from "effect"
import {
  as,
  asDraft,
  askToday,
  createRoom,
  gatewayWith,
  inPath,
  outcome,
  register,
  type TestUser
} from "../TestGateway.ts"

const tokens = { bridge: "as-token-of-the-bridge", other: "as-token-of-another" }

const gateway = gatewayWith(
  {},
  {
    appServices: [
      {
        id: "bridge",
        url: null,
        as_token: tokens.bridge,
        hs_token: "unused",
        sender_localpart: "bridgebot",
        namespaces: {
          users: [{ exclusive: true, regex: "@_irc_.*" }],
          aliases: [
            { exclusive: true, regex: "#_irc_.*" },
            { exclusive: false, regex: "#shared_.*" }
          ]
        }
      },
      {
        id: "other",
        url: null,
        as_token: tokens.other,
        hs_token: "unused",
        sender_localpart: "otherbot",
        namespaces: { aliases: [{ exclusive: true, regex: "#other_.*" }] }
      }
    ]
  }
)

const path = (localpart: string) => `/directory/room/${inPath(`#${localpart}:green.test`)}`
const asService = (method: string, localpart: string, json?: object, token = tokens.bridge) =>
  Effect.map(askToday(method, `/v3${path(localpart)}`, { token, json }), outcome)
const remove = (user: TestUser, localpart: string) => Effect.map(as(user)("DELETE", `/v3${path(localpart)}`), outcome)
const resolve = (localpart: string) => Effect.map(askToday("GET", `/v3${path(localpart)}`), outcome)

layer(gateway, { excludeTestServices: true })("aliases in the namespaces of application services", (it) => {
  it.effect(
    "an alias of an exclusive namespace is removed by its service and by administrators, and by no other user",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("aliases-alice")
        const room = yield* createRoom(alice)
        for (const name of ["_irc_tea", "_irc_milk"]) {
          assert.strictEqual(yield* asService("PUT", name, { room_id: room }), "200")
        }
        assert.strictEqual(yield* remove(alice, "_irc_tea"), "400 M_EXCLUSIVE", "whatever her power in the room")
        assert.strictEqual(outcome(yield* asDraft(alice)("DELETE", path("_irc_tea"))), "400 M_EXCLUSIVE")
        assert.strictEqual(yield* asService("DELETE", "_irc_tea", undefined, tokens.other), "400 M_EXCLUSIVE")
        assert.strictEqual(yield* resolve("_irc_tea"), "200")
        assert.strictEqual(yield* asService("DELETE", "_irc_tea"), "200")
        assert.strictEqual(yield* resolve("_irc_tea"), "404 M_NOT_FOUND")

        const admin = yield* register("aliases-admin")
        yield* AccountStore.use((accounts) => accounts.setAdmin(admin.id as UserId, true))
        assert.strictEqual(yield* remove(admin, "_irc_milk"), "200")
      })
  )

  it.effect("a service removes the aliases of its namespaces, also those that others have made, and no others", () =>
    Effect.gen(function* () {
      const alice = yield* register("aliases-maker")
      const room = yield* createRoom(alice)
      const make = (localpart: string) =>
        Effect.map(as(alice)("PUT", `/v3${path(localpart)}`, { room_id: room }), outcome)
      for (const name of ["shared_one", "shared_two", "plain"]) assert.strictEqual(yield* make(name), "200")
      assert.strictEqual(yield* make("_irc_plain"), "400 M_EXCLUSIVE")
      assert.strictEqual(yield* asService("DELETE", "shared_one"), "200", "the service is not in the room")
      assert.strictEqual(yield* remove(alice, "shared_two"), "200", "the namespace is not exclusive")
      assert.strictEqual(yield* asService("DELETE", "plain"), "400 M_EXCLUSIVE")
      assert.strictEqual(yield* resolve("plain"), "200")
    })
  )
})
