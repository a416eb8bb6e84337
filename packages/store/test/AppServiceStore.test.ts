import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { AppServiceStore } from "../src/AppServiceStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

layer(AppServiceStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)), { excludeTestServices: true })(
  "AppServiceStore",
  (it) => {
    it.effect("transactions after a restore from a backup have IDs that the service does not know", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* AppServiceStore
        yield* store.add(["bridge"], "start")
        const send = Effect.fnUntraced(function* (count: number) {
          const { fence } = yield* store.begin("bridge")
          const ids: Array<number> = []
          for (let n = 0; n < count; n++) {
            const { id } = yield* store.prepare("bridge", fence, "start", "{}")
            yield* store.acknowledge("bridge", fence)
            ids.push(id)
          }
          return ids
        })
        const [backedUp] = yield* send(1)
        const lost = yield* send(3)
        yield* sql`UPDATE app_services SET transaction_id = ${backedUp!}, fence = 1`
        const ids = [backedUp!, ...lost, ...(yield* send(3))]
        assert.deepStrictEqual(
          ids,
          [...new Set(ids)].sort((a, b) => a - b)
        )
      })
    )
  }
)
