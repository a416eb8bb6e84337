/**
 * Presence that other servers have of users whose server was killed, or its database too.
 *
 * Source: "Presence" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { createRoom, expectOk, type HomeServer, join, type Network, network } from "./support/Network.ts"

vi.setConfig({ testTimeout: 180_000 })

class Servers extends Context.Service<Servers, Network>()("greenroom/test/Servers") {
  static readonly layer = Layer.effect(Servers, network(["red.test", "blue.test"]))
}

const sync = (person: Person, since?: string) =>
  expectOk(
    person.ask("GET", `//_matrix/client/v3/sync${since === undefined ? "" : `?timeout=1000&since=${since}`}`)
  ) as Effect.Effect<Body>

/** The presence of users as the viewer gets it by further syncs, oldest first. */
const follow = Effect.fnUntraced(function* (viewer: Person) {
  let since: string | undefined
  const seen: Array<readonly [string, string]> = []
  const last = (userId: string) => seen.findLast(([user]) => user === userId)?.[1]
  const until = (condition: () => boolean) =>
    Effect.repeat(
      Effect.map(sync(viewer, since), (answer) => {
        since = answer.next_batch as string
        for (const { content, sender } of answer.presence?.events ?? []) seen.push([sender, content.presence])
      }),
      { until: condition }
    )
  return { last, seen, until }
})

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Presence after a kill", (it) => {
  for (const { name, crash } of [
    { name: "of the server", crash: "" },
    // What a crash of PostgreSQL leaves of UNLOGGED tables.
    { name: "of the server and PostgreSQL", crash: "TRUNCATE short_lived, short_lived_marker" }
  ]) {
    it.effect(`${name}: users who do not come back are sent as offline, and others stay online`, () =>
      Effect.gen(function* () {
        const [red, blue] = (yield* Servers).servers as [HomeServer, HomeServer]
        const suffix = crash === "" ? "" : "-crash"
        const alice = yield* red.register(`alice${suffix}`)
        const andrew = yield* red.register(`andrew${suffix}`)
        const bob = yield* blue.register(`bob${suffix}`)
        const { room_alias } = yield* createRoom(alice, { visibility: "public", room_alias_name: `square${suffix}` })
        for (const person of [andrew, bob]) yield* join(person, room_alias)
        const { last, seen, until } = yield* follow(bob)
        yield* sync(alice)
        yield* sync(andrew)
        yield* until(() => last(alice.userId) === "online" && last(andrew.userId) === "online")
        yield* red.kill
        if (crash !== "") yield* red.select(crash)
        yield* red.start
        yield* Effect.forkChild(Effect.forever(sync(andrew)))
        yield* until(() => last(alice.userId) === "offline")
        assert.isFalse(seen.some(([userId, state]) => userId === andrew.userId && state === "offline"))
      })
    )
  }
})
