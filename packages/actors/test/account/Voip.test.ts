import { createHmac } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Redacted } from "effect"
import { Voip } from "../../src/account/Voip.ts"
import { HomeServerConfig, type HomeServerSettings } from "../../src/runtime/HomeServerConfig.ts"
import { onDevice, serverName } from "../support/People.ts"

const withTurn = (turn?: HomeServerSettings["turn"]) =>
  Voip.layer.pipe(
    Layer.provide(Layer.succeed(HomeServerConfig, { serverName, dataDir: "", ...(turn === undefined ? {} : { turn }) }))
  )

const alice = onDevice("@alice:example.org" as UserId, "phone")
const uris = ["turn:turn.example.org?transport=udp"]

describe("Voip", () => {
  it.effect("TURN credentials name their expiry and the user, and the TURN server can check them", () =>
    Effect.gen(function* () {
      const credentials = yield* Effect.fromNullishOr(yield* (yield* Voip).turnServer(alice))
      assert.strictEqual(credentials.username, "3600:@alice:example.org")
      assert.strictEqual(
        credentials.password,
        createHmac("sha1", "shared secret").update("3600:@alice:example.org").digest("base64")
      )
      assert.deepStrictEqual([credentials.uris, credentials.ttl], [uris, 3600])
    }).pipe(Effect.provide(withTurn({ uris, sharedSecret: Redacted.make("shared secret"), ttl: 3600 })))
  )

  it.effect("without a TURN server there are none", () =>
    Effect.gen(function* () {
      assert.isUndefined(yield* (yield* Voip).turnServer(alice))
    }).pipe(Effect.provide(withTurn()))
  )
})
