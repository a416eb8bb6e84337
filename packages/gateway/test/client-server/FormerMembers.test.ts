/**
 * Former members of a room see it as it was when they left, and learn nothing of what came later: not by the summary either.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, inPath, joinRoom, register, roomWith } from "../TestGateway.ts"
import { list, request } from "./SlidingSyncClient.ts"

layer(gateway, { excludeTestServices: true })("former members", (it) => {
  it.effect("get no counts of present members, and not who they are", () =>
    Effect.gen(function* () {
      const alice = yield* register("former-alice")
      const bob = yield* register("former-bob")
      const carol = yield* register("former-carol")
      const room = yield* roomWith(alice, [bob])
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/kick`, { user_id: bob.id })
      yield* joinRoom(carol, room)
      const filter = inPath(JSON.stringify({ room: { include_leave: true } }))
      const whole = yield* as(bob)("GET", `/v3/sync?filter=${filter}`)
      assert.include(whole.text, room)
      assert.notInclude(whole.text, carol.id)
      assert.notInclude(whole.text, "m.joined_member_count")
      const sliding = yield* request(bob, list([[0, 10]]))
      assert.include(sliding.text, room)
      assert.include(sliding.text, alice.id)
      assert.notInclude(sliding.text, carol.id)
      assert.notInclude(sliding.text, "joined_count")
    })
  )
})
