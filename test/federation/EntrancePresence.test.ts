/**
 * Presence when users enter rooms: servers that do not poll get that of our user who enters, and that of our members when one of their
 * users enters.
 *
 * Source: "Presence" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { expectOk } from "./support/Network.ts"
import { Servers, sceneOf } from "./support/TodaysHostility.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 60_000 })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Presence of users who enter rooms", (it) => {
  it.effect("reaches servers that share their first room with the user by that", () =>
    Effect.gen(function* () {
      const { evil, number, red, room_id } = yield* sceneOf("11")
      const goOnline = ({ ask, userId }: Person) =>
        expectOk(
          ask("PUT", `//_matrix/client/v3/presence/${encodeURIComponent(userId)}/status`, { presence: "online" })
        )
      const pushes = ({ userId }: Person): ReadonlyArray<Body> =>
        evil.receivedEdus
          .filter(({ edu_type }) => edu_type === "m.presence")
          .flatMap(({ content }) => content.push ?? [])
          .filter(({ user_id }) => user_id === userId)
      const isSeen = (person: Person) =>
        Effect.repeat(
          Effect.sync(() => pushes(person)),
          { until: (found) => found.length > 0, schedule: Schedule.spaced("100 millis") }
        )
      const [dora, erik] = [yield* red.register(`dora${number}`), yield* red.register(`erik${number}`)]
      for (const person of [dora, erik]) yield* goOnline(person)
      // Presence is sent in batches, to the servers that share a room by then.
      yield* Effect.sleep("4 seconds")
      const room = yield* createRoom(dora, "11")
      assert.deepStrictEqual([pushes(dora), pushes(erik)], [[], []])
      yield* evil.join(red, room, `@late${number}:evil.test`)
      yield* expectOk(joinThrough(erik, room_id, red))
      for (const person of [dora, erik]) {
        const [push] = yield* isSeen(person)
        assert.deepInclude(push, { presence: "online", currently_active: true })
      }
    })
  )
})
