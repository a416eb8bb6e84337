/** Alice of red.test and Bob of blue.test in one room of the draft's version. */
import { Rooms } from "@greenroom/actors/room/Rooms"
import { Effect } from "effect"
import { message, twoHomeServers } from "./HomeServers.ts"

export const scene = Effect.gen(function* () {
  const [red, blue] = yield* twoHomeServers
  const alice = yield* red.person("alice")
  const bob = yield* blue.person("bob")
  const { room_alias, room_id } = yield* red.run(
    Effect.flatMap(Rooms, (rooms) => rooms.create(alice, { visibility: "public", room_alias_name: "lobby" }))
  )
  yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.join(bob, room_alias!)))
  /** Sends a message of Alice. */
  const send = (body: string) =>
    red.run(Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message(body))))
  return { red, blue, alice, bob, room_id, send }
})
