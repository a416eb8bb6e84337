/**
 * What the tests of hostile servers in the draft's dialect share.
 */
import { Context, Effect, Layer } from "effect"
import { type HostileNetwork, hostileNetwork } from "./HostileNetwork.ts"
import { createRoom, type HomeServer, isMember, join, sees } from "./Network.ts"

export class World extends Context.Service<World, HostileNetwork>()("greenroom/test/DraftHostility") {
  static readonly layer = Layer.effect(World, hostileNetwork(["red.test", "blue.test"]))
}

let scenes = 0

/** Alice of red, Bob of blue and Mallory of evil in a public room. */
export const scene = Effect.gen(function* () {
  const { evil, ...net } = yield* World
  const [red, blue] = net.servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: `place${number}` })
  yield* join(bob, room_alias)
  const mallory = `@mallory${number}:evil.test`
  evil.respond = () => ({ status: 404, body: { errcode: "M_NOT_FOUND", error: "Nothing here" } })
  const room = yield* evil.join(red, room_id, mallory)
  yield* sees(bob, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  yield* sees(alice, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  return { ...net, evil, red, blue, alice, bob, mallory, room, room_id, room_alias }
})
