import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Stream } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { MatrixClient } from "../src/MatrixClient.ts"

describe("MatrixClient", () => {
  it.effect("a stream that begins with the whole state asks for it once, and then waits for updates", () =>
    Effect.gen(function* () {
      const queries: Array<{ readonly [name: string]: string }> = []
      const server = HttpClient.make((request, url) => {
        queries.push(Object.fromEntries(url.searchParams))
        return Effect.succeed(HttpClientResponse.fromWeb(request, Response.json({ next_batch: `s${queries.length}` })))
      })
      const client = yield* MatrixClient.make({
        baseUrl: "https://green.test",
        accessToken: Redacted.make("hush")
      }).pipe(Effect.provideService(HttpClient.HttpClient, server))
      yield* Stream.runDrain(Stream.take(client.syncs({ since: "s0", fullState: true, filter: "1" }), 3))
      assert.deepStrictEqual(queries, [
        { since: "s0", timeout: "30000", filter: "1", full_state: "true" },
        { since: "s1", timeout: "30000", filter: "1" },
        { since: "s2", timeout: "30000", filter: "1" }
      ])
      queries.length = 0
      yield* Stream.runDrain(Stream.take(client.syncs(), 2))
      assert.deepStrictEqual(queries, [{ timeout: "0" }, { since: "s1", timeout: "30000" }])
    })
  )
})
