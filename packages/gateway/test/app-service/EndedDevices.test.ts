import { assert, layer } from "@effect/vitest"
import { EventLog } from "@greenroom/store/EventLog"
import { Effect, Fiber, Latch } from "effect"
import { SqlClient } from "effect/sql"
import { as, askToday, createRoom, gatewayWith, inPath, outcome, register, sendText } from "../TestGateway.ts"

const token = "as-token-of-the-bridge"

const gateway = gatewayWith(
  {},
  {
    appServices: [
      {
        id: "bridge",
        url: null,
        as_token: token,
        hs_token: "unused",
        sender_localpart: "bridgebot",
        namespaces: { users: [{ exclusive: true, regex: "@_irc_.*" }] }
      }
    ]
  }
)

layer(gateway, { excludeTestServices: true })("devices of application services that have ended", (it) => {
  it.effect("are refused from the answer on, also if this node lags behind the log", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog
      const asService = (method: string, path: string, json?: unknown) => askToday(method, path, { token, json })
      const made = yield* asService("POST", "/v3/register", {
        type: "m.login.application_service",
        username: "_irc_ends",
        inhibit_login: true
      })
      const user = made.body.user_id
      const alice = yield* register("lag-alice")
      const room = yield* createRoom(alice)
      const asUser = `user_id=${inPath(user)}`
      const device = `/v3/devices/PUPPET?${asUser}`
      const whoami = Effect.map(asService("GET", `/v3/account/whoami?${asUser}&device_id=PUPPET`), outcome)
      yield* asService("PUT", device, { display_name: "Puppet" })
      assert.strictEqual(yield* whoami, "200")

      const [isBehind, mayFollow] = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
      yield* log.follow(() => Effect.andThen(isBehind.open, mayFollow.await))
      yield* sendText(alice, room, "a row of the log")
      yield* isBehind.await
      const ending = yield* Effect.forkChild(asService("DELETE", device, {}))
      const rows = sql`SELECT 1 FROM access_tokens WHERE user_id = ${user} AND device_id = 'PUPPET'`
      while ((yield* rows).length > 0) yield* Effect.void
      // An answer that waits for nothing is there before these.
      for (let count = 0; count < 5; count++) yield* as(alice)("GET", "/v3/account/whoami")
      const before = ending.pollUnsafe()
      yield* mayFollow.open
      assert.isUndefined(before)
      assert.strictEqual((yield* Fiber.join(ending)).status, 200)
      assert.strictEqual(yield* whoami, "400 M_UNKNOWN_DEVICE")
    }).pipe(Effect.scoped)
  )
})
