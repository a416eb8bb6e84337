/**
 * An upgrade from the previous release as in docs/operations.md, while clients send messages. Clients repeat requests until the new program
 * answers.
 */
import { assert, it } from "@effect/vitest"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Exit, Option, Scope } from "effect"
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

interface Stored {
  readonly event_id: string
  readonly type: string
  readonly content: object
}

/** Type and content by event ID. Versions list state in different orders and add keys. */
const contents = (events: ReadonlyArray<Stored>) =>
  Object.fromEntries(events.map(({ content, event_id, type }) => [event_id, [type, content]]))

it.live.skipIf(previousRelease.missing !== undefined)(
  "data of the previous release is read unchanged, and its access tokens, stream tokens and transaction IDs stay valid",
  () =>
    Effect.gen(function* () {
      const program = yield* previousRelease.make
      const options = { dataDir: yield* GatewayProcess.temporaryDirectory, port: yield* freePort }
      const oldScope = yield* Scope.fork(yield* Effect.scope)
      const old = yield* Scope.provide(GatewayProcess.start({ ...options, program }), oldScope)
      let scene: Scene = sceneOf(old)
      const [alice, bob] = [yield* scene.register("alice"), yield* scene.register("bob")]
      const ask = (person: typeof alice, method: string, path: string, data?: object) =>
        Effect.map(
          Effect.suspend(() => at(scene, person).ask(method, path, data)),
          (answer) => succeeded(answer).body
        )
      const send = (text: string) =>
        ask(alice, "PUT", `/rooms/${room}/send/m.room.message/${text}`, { msgtype: "m.text", body: text })
      yield* ask(alice, "PUT", `/profile/${alice.userId}/displayname`, { displayname: "Alice \u{1f375}" })
      const { room_id } = yield* ask(alice, "POST", "/createRoom", {
        visibility: "public",
        room_alias_name: "tea",
        name: "Tea",
        topic: "Green"
      })
      const room = encodeURIComponent(room_id)
      yield* ask(bob, "POST", `/join/${room}`, {})
      const before = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, number) => `before${number}`),
        send
      )
      const readAll = Effect.gen(function* () {
        const messages = yield* ask(bob, "GET", `/rooms/${room}/messages?dir=b&from=END&limit=100`)
        const state = yield* ask(bob, "GET", `/rooms/${room}/state`)
        const { rooms } = yield* ask(bob, "GET", "/initialSync?limit=10")
        return {
          order: messages.chunk.map(({ event_id }: Stored) => event_id),
          messages: contents(messages.chunk),
          state: contents(state),
          latest: rooms[0].messages.chunk.map(({ event_id }: Stored) => event_id),
          roomState: contents(rooms[0].state),
          alias: (yield* ask(bob, "GET", "/directory/room/%23tea%3Agreen.test")).room_id,
          name: (yield* ask(bob, "GET", `/profile/${alice.userId}/displayname`)).displayname
        }
      })
      const { end } = yield* ask(bob, "GET", "/initialSync?limit=1")
      const stored = yield* readAll
      assert.strictEqual(yield* old.stop, 0)
      yield* Scope.close(oldScope, Exit.void)

      scene = sceneOf(yield* GatewayProcess.start(options))
      assert.deepStrictEqual(yield* readAll, stored)
      assert.deepStrictEqual(yield* send("before7"), before[7])
      const { event_id } = yield* send("after")
      const seen: Array<string> = []
      for (let from = end; !seen.includes(event_id); ) {
        const page = yield* ask(bob, "GET", `/events?from=${from}&timeout=1000`)
        seen.push(...page.chunk.flatMap((event: Stored) => event.event_id ?? []))
        from = page.end
      }
      assert.deepStrictEqual(seen, [event_id])
    }).pipe(Effect.scoped),
  180_000
)
