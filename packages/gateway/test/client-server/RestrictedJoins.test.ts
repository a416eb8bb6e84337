/** Who may join a room whose join rule names other rooms, where this server decides alone. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, inPath, joinRoom, outcome, putState, register, roomWith, type TestUser } from "../TestGateway.ts"

/** A room of `owner` that lets in who meets one of the conditions. */
const restrictedRoom = Effect.fnUntraced(function* (owner: TestUser, allow: ReadonlyArray<object>, version = "12") {
  const room = yield* roomWith(owner, [], { preset: "private_chat", room_version: version })
  yield* putState(owner, room, "m.room.join_rules", { join_rule: "restricted", allow })
  return room
})

const membersOf = (room: string) => ({ type: "m.room_membership", room_id: room })
const joins = (user: TestUser, room: string) => Effect.map(joinRoom(user, room), outcome)

layer(gateway, { excludeTestServices: true })("restricted rooms", (it) => {
  it.effect("let in present members of a room that is named as one, and nobody else", () =>
    Effect.gen(function* () {
      const alice = yield* register("restricted-alice")
      const [bob, carol] = [yield* register("restricted-bob"), yield* register("restricted-carol")]
      const club = yield* roomWith(alice, [bob, carol])
      const room = yield* restrictedRoom(alice, [membersOf(club)])
      yield* as(carol)("POST", `/v3/rooms/${inPath(club)}/leave`, {})
      assert.strictEqual(yield* joins(carol, room), "403 M_FORBIDDEN")
      assert.strictEqual(yield* joins(bob, room), "200")
      const others = yield* restrictedRoom(alice, [{ ...membersOf(club), type: "org.example.something" }])
      assert.strictEqual(yield* joins(bob, others), "403 M_FORBIDDEN")
      const nobodys = yield* restrictedRoom(alice, [])
      assert.strictEqual(yield* joins(bob, nobodys), "403 M_FORBIDDEN")
    })
  )

  it.effect("are looked up in the first 50 rooms of the rule, and cannot tell who is in rooms of other servers", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("fifty-alice"), yield* register("fifty-bob")]
      const club = yield* roomWith(alice, [bob])
      const behind = (length: number) => [
        ...Array.from({ length }, (_, n) => membersOf(`!unknown${n}:elsewhere.test`)),
        membersOf(club)
      ]
      assert.strictEqual(yield* joins(bob, yield* restrictedRoom(alice, behind(49))), "200")
      const beyond = yield* restrictedRoom(alice, behind(50))
      assert.strictEqual(yield* joins(bob, beyond), "400 M_UNABLE_TO_AUTHORISE_JOIN")
    })
  )

  it.effect("have no voucher in joins of invited users, whatever the request names", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("named-alice"), yield* register("named-bob")]
      const room = yield* restrictedRoom(alice, [])
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      const member = `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(bob.id)}`
      const given = { membership: "join", join_authorised_via_users_server: alice.id }
      assert.strictEqual((yield* as(bob)("PUT", member, given)).status, 200)
      assert.deepStrictEqual((yield* as(alice)("GET", member)).body as object, { membership: "join" })
    })
  )

  it.effect("let nobody in while no member may invite", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("voucher-alice"), yield* register("voucher-bob")]
      const carol = yield* register("voucher-carol")
      const club = yield* roomWith(alice, [bob, carol])
      const room = yield* restrictedRoom(alice, [membersOf(club)], "11")
      yield* putState(alice, room, "m.room.power_levels", { users: { [alice.id]: 100 }, invite: 50 })
      assert.strictEqual(yield* joins(bob, room), "200")
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual(yield* joins(carol, room), "400 M_UNABLE_TO_GRANT_JOIN")
    })
  )
})
