import { setTimeout as pauseFor } from "node:timers/promises"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { askToday, createRoom, gatewayWith, register } from "../TestGateway.ts"
import { BridgeServer } from "./BridgeServer.ts"

/** Services of one HTTP server, which get the events of all rooms. */
const names = ["requesting", "registering", "pinging", "silent"] as const
type Name = (typeof names)[number]

const tokenOf = (name: Name) => `as-token-of-${name}`

const withServices = Layer.unwrap(
  Effect.map(BridgeServer, ({ url }) =>
    gatewayWith(
      {},
      {
        appServices: names.map((name) => ({
          id: name,
          url: `${url}/${name}`,
          as_token: tokenOf(name),
          hs_token: "hs-token",
          sender_localpart: `${name}bot`,
          namespaces: { users: [{ exclusive: false, regex: "@.*" }] }
        }))
      }
    )
  )
).pipe(Layer.provideMerge(BridgeServer.layer))

const until = (condition: () => boolean) =>
  Effect.promise(async () => {
    while (!condition()) await pauseFor(10)
  })

layer(withServices, { excludeTestServices: true })("back-off of application services", (it) => {
  it.effect("it ends when the service makes a request; that of a silent service goes on", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const attempts = new Map<string, number>()
      const taken = new Set<string>()
      let refuses = true
      bridge.replyWith = async ({ path }) => {
        const [, name = "", , , , kind] = path.split("/")
        if (kind !== "transactions") return { status: 200 }
        attempts.set(name, (attempts.get(name) ?? 0) + 1)
        if (!refuses) taken.add(name)
        return { status: refuses ? 500 : 200 }
      }
      yield* createRoom(yield* register("alice"))
      // The fourth wait is eight times as long as the first one.
      yield* until(() => names.every((name) => (attempts.get(name) ?? 0) >= 4))
      refuses = false
      const asService = (name: Name, method: string, path: string, json?: unknown) =>
        askToday(method, path, { token: tokenOf(name), json })
      assert.strictEqual((yield* asService("requesting", "GET", "/v3/account/whoami")).status, 200)
      assert.strictEqual((yield* asService("pinging", "POST", "/v1/appservice/pinging/ping", {})).status, 200)
      const registration = { type: "m.login.application_service", username: "puppet", inhibit_login: true }
      assert.strictEqual((yield* asService("registering", "POST", "/v3/register", registration)).status, 200)
      yield* until(() => taken.size === 3)
      assert.isFalse(taken.has("silent"))
      yield* until(() => taken.has("silent"))
    })
  )
})
