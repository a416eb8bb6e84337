/**
 * Former members of a room see it as it was when they left, and learn nothing of what came later: not by the summary either. Members
 * of a room whose history is hidden learn nothing of what was before their join.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, inPath, joinRoom, register, roomWith, sendText } from "../TestGateway.ts"
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
      const now = (yield* as(carol)("GET", "/v3/sync")).body.next_batch as string
      const members = yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/members?at=${now}`)
      assert.sameMembers(
        members.body.chunk.map(({ state_key }) => state_key),
        [alice.id, bob.id]
      )
      for (const path of ["members", "state"]) {
        const { text } = yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/${path}`)
        assert.include(text, alice.id)
        assert.notInclude(text, carol.id)
      }
      const joined = yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/joined_members`)
      assert.strictEqual(joined.body.errcode, "M_FORBIDDEN")
    })
  )
})

layer(gateway, { excludeTestServices: true })("later members", (it) => {
  it.effect("get neither the members nor the events from before their join where the history is hidden", () =>
    Effect.gen(function* () {
      const alice = yield* register("later-alice")
      const bob = yield* register("later-bob")
      for (const visibility of ["joined", "shared"]) {
        const hidden = { type: "m.room.history_visibility", content: { history_visibility: visibility } }
        const room = yield* roomWith(alice, [], { initial_state: [hidden] })
        const message = yield* sendText(alice, room, "before")
        const at = (yield* as(bob)("GET", "/v3/sync")).body.next_batch as string
        yield* joinRoom(bob, room)
        const members = `/v3/rooms/${inPath(room)}/members`
        const before = yield* as(bob)("GET", `${members}?at=${at}`)
        assert.strictEqual(before.status, visibility === "joined" ? 403 : 200)
        const joined = (yield* as(bob)("GET", "/v3/sync")).body.next_batch as string
        const now = yield* as(bob)("GET", `${members}?at=${joined}`)
        assert.lengthOf(now.body.chunk, 2)
        assert.strictEqual((yield* as(alice)("GET", `${members}?at=${at}`)).status, 200)
        const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(message)}`)
        const from = `ts=${body.origin_server_ts as unknown as number}&dir=f`
        const first = yield* as(bob)("GET", `/v1/rooms/${inPath(room)}/timestamp_to_event?${from}`)
        assert.strictEqual(first.body.event_id === message, visibility === "shared")
      }
    })
  )
})
