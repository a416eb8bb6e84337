/** The servers and the room of the tests of hostile servers in the draft's dialect. */
import { Context, Effect, Layer } from "effect"
import { type HostileNetwork, hostileNetwork } from "./HostileNetwork.ts"
import { notFound } from "./HostileServer.ts"
import { createRoom, type HomeServer, isMember, join, sees } from "./Network.ts"

export class Servers extends Context.Service<Servers, HostileNetwork>()("greenroom/test/DraftHostility") {
  static readonly layer = Layer.effect(Servers, hostileNetwork(["red.test", "blue.test"]))
}

let scenes = 0

/** Alice of red, Bob of blue and Mallory of evil in a public room. */
export const scene = Effect.gen(function* () {
  const { evil, ...net } = yield* Servers
  const [red, blue] = net.servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: `room${number}` })
  yield* join(bob, room_alias)
  const mallory = `@mallory${number}:evil.test`
  evil.respond = () => notFound
  const room = yield* evil.join(red, room_id, mallory)
  yield* sees(bob, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  yield* sees(alice, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  return { ...net, evil, red, blue, alice, bob, mallory, room, room_id, room_alias }
})
