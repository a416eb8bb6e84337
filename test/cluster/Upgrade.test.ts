/**
 * An operator installs this version over the previous release, by the book (docs/operations.md), while people talk: their clients
 * try again until the new program answers.
 */
import { assert, it } from "@effect/vitest"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import { Effect, Exit, Option, Scope } from "effect"
import { freePort } from "../support/FreePort.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { roomOf, type Scene, sceneOf, succeeded } from "../support/Scene.ts"
import { at } from "./support/Cluster.ts"
import { previousRelease } from "./support/Revisions.ts"
import { begin, mustHaveNoFork } from "./support/Workload.ts"

if (previousRelease.missing !== undefined) console.warn(`The upgrade is not tested: ${previousRelease.missing}`)

it.live.skipIf(previousRelease.missing !== undefined)(
  "an upgrade from the previous release under load keeps every acknowledged event, once, and all logins",
  () =>
    Effect.gen(function* () {
      const program = yield* previousRelease.make
      const options = { dataDir: yield* GatewayProcess.temporaryDirectory, port: yield* freePort }
      const oldScope = yield* Scope.fork(yield* Effect.scope)
      const old = yield* Scope.provide(GatewayProcess.start({ ...options, program }), oldScope)
      let scene: Scene = sceneOf(old)
      const [alice, bob] = [yield* scene.register("alice"), yield* scene.register("bob")]
      const room = yield* roomOf(alice, bob)
      const load = yield* begin({ room, sender: alice, followers: [alice, bob], entries: () => [scene] })
      yield* load.more(50)

      assert.strictEqual(yield* old.stop, 0)
      yield* Scope.close(oldScope, Exit.void)
      const gateway = yield* GatewayProcess.start(options)
      scene = sceneOf(gateway)
      yield* load.more(50)
      yield* load.finish
      const databaseUrl = Option.getOrThrow(yield* findRunningPostgres(options.dataDir))
      yield* mustHaveNoFork(databaseUrl, room)

      const { body } = succeeded(yield* at(scene, bob).ask("GET", "//_matrix/client/v3/sync?timeout=0"))
      assert.strictEqual(body.rooms.join[room].timeline.events.at(-1).content.body, "That is all")
      const login = { type: "m.login.password", user: "alice", password: "secret of alice" }
      assert.strictEqual(succeeded(yield* scene.ask("POST", "/login", { data: login })).body.user_id, alice.userId)
      assert.notInclude(gateway.output(), "failed inside")
    }).pipe(Effect.scoped),
  180_000
)
