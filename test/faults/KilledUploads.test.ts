/** Acknowledged uploads are complete after the server was killed during other uploads. */
import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { curl } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { randomFrom, seed } from "../support/Seed.ts"

const kills = 3
const uploaders = 6
/** How many uploads are answered between two kills. */
const between = 25
const random = randomFrom(seed)

interface Acknowledged {
  readonly uri: string
  readonly bytes: Buffer
}

describe("KilledUploads", () => {
  it.live(
    "every acknowledged upload is complete after kill -9",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        let gateway = yield* GatewayProcess.start({ dataDir })
        const registered = yield* curl(gateway.url, "POST", "/matrix/client/api/v1/register", {
          data: { type: "m.login.password", user: "alice", password: "secret" }
        })
        const authorization = `Bearer ${registered.body.access_token}`
        const acknowledged: Array<Acknowledged> = []

        const uploadOne = Effect.fnUntraced(function* (url: string) {
          const bytes = randomBytes(1 + random(300_000))
          const response = yield* Effect.tryPromise(() =>
            fetch(`${url}/_matrix/media/v3/upload`, { method: "POST", headers: { authorization }, body: bytes })
          )
          const body = yield* Effect.tryPromise(() => response.json() as Promise<{ content_uri: string }>)
          if (response.status === 200) acknowledged.push({ uri: body.content_uri, bytes })
        })

        for (let kill = 0; kill < kills; kill++) {
          const enough = yield* Deferred.make<void>()
          const target = acknowledged.length + between
          const { url } = gateway
          const upload = Effect.tap(uploadOne(url), () =>
            acknowledged.length >= target ? Deferred.succeed(enough, undefined) : Effect.void
          )
          const running = yield* Effect.forEach(Array.from({ length: uploaders }), () =>
            Effect.forkChild(Effect.ignore(Effect.forever(upload)))
          )
          yield* Deferred.await(enough)
          yield* gateway.kill
          yield* Effect.forEach(running, Fiber.await)
          gateway = yield* GatewayProcess.start({ dataDir })
        }

        assert.isAtLeast(acknowledged.length, kills * between)
        for (const { bytes, uri } of acknowledged) {
          const path = `/_matrix/client/v1/media/download/${uri.replace("mxc://", "")}`
          const response = yield* Effect.promise(() => fetch(`${gateway.url}${path}`, { headers: { authorization } }))
          const body = Buffer.from(yield* Effect.promise(() => response.arrayBuffer()))
          assert.strictEqual(response.status, 200, uri)
          assert.isTrue(body.equals(bytes), uri)
        }
      }),
    180_000
  )
})
