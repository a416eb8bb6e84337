import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { RoomId } from "@greenroom/protocol/Identifiers"
import { Effect, Redacted } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { GreenroomClient } from "../src/GreenroomClient.ts"

/** The modules of this repository that a module imports, directly and indirectly. */
const modulesOf = (url: URL, found = new Map<string, string>()): ReadonlyMap<string, string> => {
  if (found.has(url.href)) return found
  const source = readFileSync(fileURLToPath(url), "utf8")
  found.set(url.href, source)
  for (const [, specifier = ""] of source.matchAll(/(?:import|export)[^"]*? from "([^"]+)"/g)) {
    const ours = /^@greenroom\/([^/]+)\/(.+)$/.exec(specifier)
    if (specifier.startsWith(".")) modulesOf(new URL(specifier, url), found)
    else if (ours !== null) modulesOf(new URL(`../../${ours[1]}/src/${ours[2]}.ts`, import.meta.url), found)
  }
  return found
}

describe("GreenroomClient", () => {
  it("no module of the client needs Node.js", () => {
    for (const name of ["GreenroomClient", "GreenroomSocket", "MatrixClient"]) {
      const modules = modulesOf(new URL(`../src/${name}.ts`, import.meta.url))
      assert.isAbove(modules.size, 20)
      for (const [url, source] of modules) {
        assert.notMatch(source, /from "node:|platform-node|\bBuffer\.|\bprocess\./, url)
      }
    }
  })

  it.effect("requests have the configured prefix, and the token only in the header", () =>
    Effect.gen(function* () {
      const requests: Array<{ readonly url: string; readonly authorization: string | undefined }> = []
      const recording = HttpClient.make((request, url) => {
        requests.push({ url: url.href, authorization: request.headers.authorization })
        assert.isUndefined(request.headers.traceparent)
        return Effect.succeed(HttpClientResponse.fromWeb(request, Response.json({ event_id: "$1:green.test" })))
      })
      const client = yield* GreenroomClient.make({
        baseUrl: "https://green.test/behind/",
        prefix: "/_matrix/client/api/v1",
        accessToken: Redacted.make("hush")
      }).pipe(Effect.provideService(HttpClient.HttpClient, recording))
      yield* client.sendText(RoomId.make("!a/b:green.test"), "Hello", { txnId: "1" })
      assert.deepStrictEqual(requests, [
        {
          url: "https://green.test/behind/_matrix/client/api/v1/rooms/!a%2Fb%3Agreen.test/send/m.room.message/1",
          authorization: "Bearer hush"
        }
      ])
    })
  )

  it.effect("transaction IDs are unique, also between clients", () =>
    Effect.gen(function* () {
      const unreachable = HttpClient.make(() => Effect.interrupt)
      const make = GreenroomClient.make({ baseUrl: "http://green.test" }).pipe(
        Effect.provideService(HttpClient.HttpClient, unreachable)
      )
      const clients = [yield* make, yield* make]
      const ids = clients.flatMap(({ newTransactionId }) => Array.from({ length: 100 }, newTransactionId))
      assert.strictEqual(new Set(ids).size, 200)
    })
  )
})
