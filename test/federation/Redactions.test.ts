import { assert, describe, it } from "@effect/vitest"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { StreamedEvent } from "@greenroom/actors/sync/EventStream"
import { Effect } from "effect"
import { scene } from "./support/Scene.ts"

const isName = (name: string) => (event: StreamedEvent) => event.type === "m.room.name" && event.content.name === name

describe("Redactions across servers", () => {
  it.live("an event that is redacted on one server is redacted on the other, also as prev_content of later state", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red, room_id } = yield* scene
      const ofAlice = <A, E>(use: (rooms: Rooms["Service"]) => Effect.Effect<A, E>) =>
        red.run(Effect.flatMap(Rooms, use))
      const ofBob = <A, E>(use: (rooms: Rooms["Service"]) => Effect.Effect<A, E>) =>
        blue.run(Effect.flatMap(Rooms, use))
      const levels = yield* ofAlice((rooms) => rooms.getState(alice, room_id, "m.room.power_levels", ""))
      yield* ofAlice((rooms) =>
        rooms.setState(alice, room_id, "m.room.power_levels", "", {
          ...levels,
          users: { [alice.userId]: 100, [bob.userId]: 50 }
        })
      )
      const secret = yield* ofAlice((rooms) => rooms.setState(alice, room_id, "m.room.name", "", { name: "secret" }))
      yield* blue.sees(bob, isName("secret"))
      const later = yield* ofBob((rooms) => rooms.setState(bob, room_id, "m.room.name", "", { name: "harmless" }))
      assert.deepStrictEqual((yield* ofBob((rooms) => rooms.getEvent(bob, later.event_id))).prev_content, {
        name: "secret"
      })
      yield* red.sees(alice, isName("harmless"))
      yield* ofAlice((rooms) => rooms.redact(alice, room_id, secret.event_id))
      yield* blue.sees(bob, (event) => event.type === "m.room.redaction")
      for (const [session, of] of [
        [alice, ofAlice],
        [bob, ofBob]
      ] as const) {
        const seen = yield* of((rooms) =>
          Effect.all([
            rooms.getEvent(session, secret.event_id),
            rooms.getEvent(session, later.event_id),
            rooms.messages(session, room_id, { limit: 1000 }),
            rooms.getFullState(session, room_id)
          ])
        )
        assert.notInclude(JSON.stringify(seen), "secret")
      }
    })
  )
})
