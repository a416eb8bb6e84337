import { assert, layer } from "@effect/vitest"
import { DestinationStore } from "@greenroom/store/DestinationStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { registerAdmin } from "../admin/TestAdmin.ts"
import { ask, gateway, register } from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("DestinationsHandlers", (it) => {
  it.effect("administrators alone see the state of other servers", () =>
    Effect.gen(function* () {
      const root = yield* registerAdmin("root")
      const eve = yield* register("eve")
      const destinations = yield* DestinationStore
      const { retryAt } = yield* destinations.failed("away.test" as never, "no route")
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO outgoing_pdus (destination, event_nid) VALUES ('away.test', 1), ('away.test', 2)`
      const { body, status } = yield* ask("GET", "/admin/destinations", { token: root.token })
      assert.strictEqual(status, 200)
      const [found] = body.destinations as ReadonlyArray<{ readonly [key: string]: unknown }>
      assert.include(found, {
        destination: "away.test",
        queue_length: 2,
        failures: 1,
        last_error: "no route",
        backoff_until: retryAt
      })
      const refused = yield* ask("GET", "/admin/destinations", { token: eve.token })
      assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
    })
  )
})
