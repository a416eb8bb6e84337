/** Joins of users of other servers to rooms that let in the members of others. */
import { assert, layer } from "@effect/vitest"
import { formatUserId, type RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { Room } from "../../../src/room/RoomProtocol.ts"
import { Rooms } from "../../../src/room/Rooms.ts"
import { guest, layer as homeServer } from "../../TestHomeServer.ts"

const carol = formatUserId("carol", ServerName.make("red.test"))

layer(homeServer, { excludeTestServices: true })("restricted joins of users of other servers", (it) => {
  it.effect("are refused for good only by a server that knows all of the rooms in which the user could be", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id: club } = yield* rooms.create(alice, { room_version: "11" })
      const { room_id } = yield* rooms.create(alice, { room_version: "11" })
      const room = (yield* Room.client)(room_id)
      const refusalWith = Effect.fnUntraced(function* (...allowed: ReadonlyArray<RoomId>) {
        const allow = allowed.map((id) => ({ type: "m.room_membership", room_id: id }))
        yield* rooms.setState(alice, room_id, "m.room.join_rules", "", { join_rule: "restricted", allow })
        const made = room.MakeMembership({ handshake: "join", userId: carol, versions: ["11"] })
        return (yield* Effect.flip(made))._tag
      })
      const elsewhere = "!elsewhere:blue.test" as RoomId
      assert.strictEqual(yield* refusalWith(), "M_FORBIDDEN")
      assert.strictEqual(yield* refusalWith(club, club), "M_FORBIDDEN")
      assert.strictEqual(yield* refusalWith(elsewhere), "M_UNABLE_TO_AUTHORISE_JOIN")
      assert.strictEqual(yield* refusalWith(club, elsewhere), "M_UNABLE_TO_AUTHORISE_JOIN")
    })
  )
})
